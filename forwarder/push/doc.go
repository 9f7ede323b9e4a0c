// Package push makes a request of a message, and a verdict of its answer.
//
// It promises what README's "Use it" says of requests and responses. It makes one attempt, repeats and remembers nothing, and owns
// no state but its connections: what it knows of a message is in its Item. It must not know who delivers, when, or what follows.
package push
