package librdkafka

/*
#include <malloc.h>

// librdkafka's threads allocate from one arena of glibc's: each had one of its own otherwise, and kept there what the others
// freed. glibc asks for the limit once, when a second thread allocates, which is before Go's main. What is large goes back to the
// system as soon as it is freed: glibc would learn from the first batch that unpacks to 20 MB to keep twice that.
__attribute__((constructor)) static void one_arena(void) {
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 1 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
}
*/
import "C"

// Trim gives back to the system what librdkafka has freed.
func Trim() { C.malloc_trim(0) }
