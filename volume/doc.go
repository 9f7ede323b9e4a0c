// Package volume is files on a volume whose writes are known to be on the disk: for the offsets, and for the spool of what is published.
//
// It promises that what Sync vouches for is there after a power cut, and that a file from Create is whole or not there. It owns no
// state, and must not know what a file holds. That a volume has one process is offsets' business (Lock).
package volume
