package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/kpush/kpush/forwarder"
)

const (
	dumpMost  = 4 << 20         // bytes of goroutines: what is beyond is left out
	dumpPiece = 32 << 10        // of one line; logRoom holds many
	dumpTime  = 3 * time.Second // for whoever reads the log to make room
	dumpGroup = 50              // partitions, or messages, of one line
	stateTime = 2 * time.Second // for a volume that hangs
)

// dumpOnQuit has SIGQUIT write all goroutines and the state to the log; the process goes on.
func dumpOnQuit(log *lines, status func() forwarder.Status) {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT)
	go func() {
		for range quit {
			dump(log, status)
		}
	}()
}

// dump writes whatever the level of the log is: somebody has asked for it. The goroutines first, for they wait for nobody.
func dump(log *lines, status func() forwarder.Status) {
	end := time.Now().Add(dumpTime)
	list := pieces(stacks())
	for i, piece := range list {
		log.Error("SIGQUIT: goroutines", "part", fmt.Sprintf("%d/%d", i+1, len(list)), "text", string(piece))
		log.flush(time.Until(end))
	}
	got := make(chan forwarder.Status, 1)
	go func() { got <- status() }()
	select {
	case s := <-got:
		for _, part := range parts(s) {
			text, err := json.Marshal(part)
			if err != nil {
				text = []byte(err.Error())
			}
			log.Error("SIGQUIT: state", "state", string(text))
			log.flush(time.Until(end))
		}
	case <-time.After(stateTime):
		log.Error("SIGQUIT: the state is not known: the volume does not answer")
	}
}

// stacks are all goroutines', as far as they fit.
func stacks() []byte {
	for size := 256 << 10; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= dumpMost {
			return b[:n]
		}
	}
}

// pieces cuts text where a goroutine ends.
func pieces(text []byte) (out [][]byte) {
	for len(text) > dumpPiece {
		at := bytes.LastIndex(text[:dumpPiece], []byte("\n\n"))
		if at <= 0 {
			at = dumpPiece
		}
		out = append(out, text[:at])
		text = bytes.TrimLeft(text[at:], "\n")
	}
	return append(out, text)
}

// parts are a Status in pieces, without what is of messages.
func parts(s forwarder.Status) (out []any) {
	partitions, blocked := s.Partitions, slices.Clone(s.Blocked)
	for i := range blocked {
		blocked[i].Key, blocked[i].Answer = nil, ""
	}
	s.Partitions, s.Blocked = nil, nil
	out = append(out, s)
	for group := range slices.Chunk(partitions, dumpGroup) {
		out = append(out, map[string]any{"Partitions": group})
	}
	for group := range slices.Chunk(blocked, dumpGroup) {
		out = append(out, map[string]any{"Blocked": group})
	}
	return out
}
