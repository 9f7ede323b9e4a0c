// Package config is the variables: it loads, checks, masks and explains them.
//
// What it promises: a Config from Load is checked as a whole, and whoever uses it need not look again; else one error names
// everything that is wrong, a line each. No error, no help and nothing that Effective returns shows a value that may be a secret;
// Kafka and Targets hand secrets out, to whoever connects.
//
// The struct Config is the one description of a variable: loading, bounds, help and README's table come from its tags. Load owns
// nothing for longer than its call, in which it lends the variables to the process's environment (docs/decisions/0001): it runs once,
// before anything else looks there. A Config belongs to its caller.
//
// It knows no other package of kpush. What a value means for a room's options is main's to say (config.go at the root): a value
// is kept here as the user meant it, not as somebody needs it.
package config
