package offsets

import "errors"

var (
	// ErrReleased answers every call for a partition that was revoked or lost.
	ErrReleased = errors.New("this partition is no longer assigned to this process: nothing of it is recorded")
	// ErrClosed answers every call after Close.
	ErrClosed = errors.New("the offsets file is closed")
	// ErrHangs is what Err says while a write does not come to its end.
	ErrHangs = errors.New("takes no write, and does not say why")

	errNotOutstanding = errors.New("it was not handed over, or is finished already")
)

// Reasons of an OpenError, for errors.Is.
var (
	ErrLocked  = errors.New("volume in use by another process")
	ErrVolume  = errors.New("volume not usable")
	ErrCorrupt = errors.New("offsets file damaged")
	ErrNewer   = errors.New("offsets file of a newer version")
)

// OpenError is why Open or Dump cannot work with a volume. Trying again will not help; a person has to act.
type OpenError struct {
	Reason   error  // ErrLocked, ErrVolume, ErrCorrupt or ErrNewer
	Path     string // the directory or file it is about
	Position int64  // the byte in the file, for ErrCorrupt
	Sentence string
}

func (e *OpenError) Error() string { return e.Sentence }

func (e *OpenError) Unwrap() error { return e.Reason }
