// Command release makes what goes along with a release: the notices of what the binary links, and its bill of materials.
//
//	go run ./release notices           writes THIRD_PARTY.txt
//	go run ./release sbom BINARY FILE  writes a binary's bill of materials, by cyclonedx-gomod, with what is not Go
package main

import (
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "notices":
		text, err := notices(".")
		if err != nil {
			return err
		}
		return os.WriteFile("THIRD_PARTY.txt", text, 0o644)
	case len(args) == 3 && args[0] == "sbom":
		return sbom(args[1], args[2])
	}
	return fmt.Errorf("usage: release notices | release sbom BINARY FILE")
}
