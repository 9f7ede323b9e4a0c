// Package start decides where a partition starts, and reads and writes the mark that one life leaves for the next.
//
// It promises the order operator's reset > saved file > Kafka's commit > reset policy, and never to believe a fact of another
// topic, cluster, group or history. It owns no state and asks nobody: what is known comes in, a decision goes out. It must not
// know how a message is delivered or how a commit is made.
package start
