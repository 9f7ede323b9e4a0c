package main

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpush/kpush/config"
	"github.com/kpush/kpush/forwarder"
)

// full is a Status of many partitions, with a message whose key and answer are nobody's business.
func full() forwarder.Status {
	s := forwarder.Status{State: forwarder.Running, Group: "shop", Partitions: make([]forwarder.PartitionStatus, 1000), Blocked: make([]forwarder.BlockedStatus, 3)}
	for i := range s.Partitions {
		s.Partitions[i].Topic, s.Partitions[i].Number = "orders", int32(i)
	}
	s.Blocked[1].Key, s.Blocked[1].Answer, s.Blocked[1].Reason = []byte("customer-17"), "secret", "the service answered 500"
	return s
}

// SIGQUIT has all goroutines and the state in the log, in lines that fit, whatever its level; the process goes on.
func TestQuitDumps(t *testing.T) {
	out := &reader{}
	log := newLog(&config.Config{LogFormat: "json"}, out)
	done := make(chan struct{})
	defer close(done)
	for range 300 { // more than one line holds
		go func() { <-done }()
	}
	dumpOnQuit(log, full)
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !strings.Contains(out.text(), "answered 500"); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the state is not told:\n%s", out.text())
		}
	}
	partitions, goroutines := 0, 0
	for line := range strings.Lines(out.text()) {
		var said struct{ Msg, Text, State string }
		if err := json.Unmarshal([]byte(line), &said); err != nil || len(line) > 3*dumpPiece {
			t.Fatalf("%d bytes, %v: %s", len(line), err, line)
		}
		var state forwarder.Status
		if said.State != "" {
			if err := json.Unmarshal([]byte(said.State), &state); err != nil {
				t.Error(err)
			}
		}
		partitions += len(state.Partitions)
		goroutines += strings.Count(said.Text, "TestQuitDumps.func1")
	}
	if partitions != 1000 || goroutines < 300 {
		t.Errorf("%d partitions and %d goroutines of this test were told", partitions, goroutines)
	}
	for what, want := range map[string]bool{`\"State\":\"running\"`: true, "the service answered 500": true, "customer-17": false, "Y3VzdG9tZXIt": false, "secret": false} {
		if strings.Contains(out.text(), what) != want {
			t.Errorf("%s is told: %t", what, !want)
		}
	}
	if n := log.left(); n != 0 {
		t.Errorf("%d lines were left out", n)
	}
}

// A volume that hangs keeps the state back, not the goroutines; a log that nobody reads keeps nobody.
func TestQuitWaitsForNobody(t *testing.T) {
	out := &reader{}
	log := newLog(&config.Config{LogFormat: "json"}, out)
	hangs := make(chan struct{})
	defer close(hangs)
	dump(log, func() forwarder.Status { <-hangs; return forwarder.Status{} })
	log.flush(time.Second)
	if text := out.text(); !strings.Contains(text, "goroutine ") || !strings.Contains(text, "the state is not known") {
		t.Error(text)
	}
	wake := out.sleeps()
	defer wake()
	begun := time.Now()
	dump(log, full)
	if took := time.Since(begun); took > dumpTime+stateTime+time.Second {
		t.Errorf("it took %s", took)
	}
}
