// Package api is what the sidecar answers: health and readiness, and metrics. It reads the other rooms and decides nothing for them.
package api
