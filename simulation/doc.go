// Package simulation runs the real core in a simulated world: the forwarder, its pace, starts and records, on a cluster, a service, disks and
// machines that fail as real ones do, with a clock that costs nothing.
//
// It promises that a history follows from its seed as far as Go's scheduler lets it (see docs/simulation.md), and that what is judged is what the
// service and the cluster have seen, never what kpush says of itself. It owns the world; nobody imports it.
package simulation
