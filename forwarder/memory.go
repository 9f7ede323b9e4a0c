package forwarder

/*
#include <malloc.h>

// librdkafka's threads allocate from one arena of glibc's: each had one of its own otherwise, and kept there what the others
// freed. glibc asks for the limit once, when a second thread allocates, which is before Go's main.
__attribute__((constructor)) static void one_arena(void) { mallopt(M_ARENA_MAX, 1); }
*/
import "C"

import (
	"bufio"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// idleTime without a message, what busy times needed goes back to the system, and every tidyTime from then on what being idle
// has piled up.
const (
	idleTime = 5 * time.Second
	tidyTime = 20 * time.Second
)

// idle tells whether no message has come for a while. It belongs to the poll goroutine, as does tidyMemory.
func (f *Forwarder) idle(now time.Time) bool { return now.Sub(f.busy) > idleTime }

// tidyMemory gives back memory, Go's, librdkafka's and the program's own.
func (f *Forwarder) tidyMemory(now time.Time) {
	if !f.idle(now) || f.tidied.After(f.busy) && now.Sub(f.tidied) < tidyTime {
		return
	}
	f.tidied = now
	go func() {
		debug.FreeOSMemory()
		C.malloc_trim(0) // librdkafka's
		forgetCode()
	}()
}

// forgetCode unmaps the pages of the program's own file, code and constants: the start has touched most of them, and what is
// needed again comes back from the page cache. Nothing is lost: only mappings are taken that nobody has written to.
func forgetCode() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return // no /proc: the pages stay
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var from, to uint64 // of a mapping that may go; none where they are the same
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		begin, end, header := strings.Cut(fields[0], "-")
		switch {
		case header: // FROM-TO rights offset device inode path
			from, _ = strconv.ParseUint(begin, 16, 64)
			to, _ = strconv.ParseUint(end, 16, 64)
			if fields[1][1] == 'w' || fields[len(fields)-1] != program {
				from = to
			}
		case from < to && fields[0] == "Anonymous:" && fields[1] == "0":
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(from), uintptr(to-from), syscall.MADV_DONTNEED) // refused: they stay
		}
	}
}
