// Package librdkafka is the only door to the C library: a consumer, a reader without a group, a producer,
// and a cluster's answers.
//
// It promises what kafka's interfaces say, and to link librdkafka nowhere else. Each value owns its client and what it has put
// into C. It translates and decides nothing: it must not know deliveries, offsets or groups' rules beyond the client's settings.
package librdkafka
