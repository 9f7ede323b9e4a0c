package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// cyclonedx makes bills of materials of Go binaries.
const cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// sbom writes a binary's bill of materials in CycloneDX's JSON.
func sbom(binary, file string) error {
	bill := exec.Command("go", "run", cyclonedx, "bin", "-json", "-std", "-output", file, binary)
	bill.Env = append(os.Environ(), "GOOS=", "GOARCH=", "CC=") // of this machine, whatever the binary is of
	if out, err := bill.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cyclonedx, err, out)
	}
	return complete(file)
}

// complete adds the parts in C.
func complete(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var bill map[string]any
	if err := json.Unmarshal(text, &bill); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	components, _ := bill["components"].([]any)
	if len(components) == 0 {
		return fmt.Errorf("%s names no module", file)
	}
	for _, p := range parts {
		c := map[string]any{"type": "library", "bom-ref": "bundle:" + p.name, "name": p.name, "licenses": []any{map[string]any{"license": map[string]any{"id": p.license}}}}
		if p.version != "" {
			c["version"] = p.version
			c["purl"] = "pkg:generic/" + p.name + "@" + p.version
		}
		components = append(components, c)
	}
	bill["components"] = components
	text, err = json.MarshalIndent(bill, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}
