package rig

import (
	"context"
	"syscall"
	"time"
)

// The faults of a cluster made by Own. Without node numbers they concern every node; nodes count from 1.

// Kill ends the broker as a power cut of the process would: SIGKILL, its data stay.
func (k *Kafka) Kill(t T, nodes ...int) {
	t.Helper()
	k.signal(t, syscall.SIGKILL, nodes)
	k.gone(t, nodes)
}

// Stop ends it in good order.
func (k *Kafka) Stop(t T, nodes ...int) {
	t.Helper()
	k.signal(t, syscall.SIGTERM, nodes)
	k.gone(t, nodes)
}

// Pause freezes it: connections stay open, nothing answers.
func (k *Kafka) Pause(t T, nodes ...int) {
	t.Helper()
	k.signal(t, syscall.SIGSTOP, nodes)
}

// Cont lets a frozen one go on.
func (k *Kafka) Cont(t T, nodes ...int) {
	t.Helper()
	k.signal(t, syscall.SIGCONT, nodes)
}

// Start starts killed or stopped nodes with the data and ports they had, and returns when all serve.
func (k *Kafka) Start(t T, nodes ...int) {
	t.Helper()
	for _, n := range k.pick(t, nodes) {
		var err error
		if n.process, err = n.runner.start(n); err != nil {
			t.Fatalf("%v", err)
		}
	}
	if err := k.await(); err != nil {
		t.Fatalf("%v", err)
	}
}

// Coordinator is the number of the node that coordinates the group.
func (k *Kafka) Coordinator(t T, group string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found := k.client.admin.FindGroupCoordinators(ctx, group)
	if err := found.Error(); err != nil {
		t.Fatalf("The coordinator of %s cannot be found: %v", group, err)
	}
	return int(found[group].NodeID)
}

// LedBy are the partitions of a topic that a node leads.
func (k *Kafka) LedBy(t T, topic string, node int) (led []int32) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	found, err := k.client.admin.ListTopics(ctx, topic)
	if err != nil {
		t.Fatalf("Who leads %s cannot be found: %v", topic, err)
	}
	for _, p := range found[topic].Partitions.Sorted() {
		if int(p.Leader) == node {
			led = append(led, p.Partition)
		}
	}
	return led
}

func (k *Kafka) pick(t T, numbers []int) []*node {
	t.Helper()
	if len(k.nodes) == 0 {
		t.Fatalf("%s is not the rig's to hurt: use rig.Own.", k)
	}
	if len(numbers) == 0 {
		return k.nodes
	}
	var picked []*node
	for _, number := range numbers {
		picked = append(picked, k.nodes[number-1])
	}
	return picked
}

func (k *Kafka) signal(t T, s syscall.Signal, nodes []int) {
	t.Helper()
	for _, n := range k.pick(t, nodes) {
		if !n.process.alive() {
			continue
		}
		if err := n.runner.signal(n, s); err != nil {
			t.Fatalf("%v", err)
		}
	}
}

func (k *Kafka) gone(t T, nodes []int) {
	t.Helper()
	for _, n := range k.pick(t, nodes) {
		if _, ok := n.process.wait(30 * time.Second); !ok {
			t.Fatalf("Kafka's node %d still runs 30 s after its end was asked for.", n.id)
		}
	}
}
