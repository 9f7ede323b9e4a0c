package main

import (
	"encoding/json"
	"fmt"
	"os"
)

// complete adds the parts in C to a bill of materials in CycloneDX's JSON.
func complete(binary, file string) error {
	if err := missing(binary, parts); err != nil {
		return err
	}
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
