package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// THIRD_PARTY.txt is what the modules of today say.
func TestNoticesAreCurrent(t *testing.T) {
	want, err := notices("..")
	if err != nil {
		t.Fatal(err)
	}
	is, err := os.ReadFile("../THIRD_PARTY.txt")
	if err != nil || !bytes.Equal(is, want) {
		t.Errorf("THIRD_PARTY.txt is not what the binary links (%v): go run ./release notices", err)
	}
	for _, name := range []string{"prometheus/client_golang", "openssl 3.5.6", "curl 8", "LESSER GENERAL PUBLIC LICENSE", "LICENSE.lz4", "Go, its runtime", "go.opentelemetry.io/otel/sdk"} {
		if !strings.Contains(string(want), name) {
			t.Errorf("%s is not in it", name)
		}
	}
	for _, only := range []string{"franz-go", "chromedp", "kubeconform"} {
		if strings.Contains(string(want), only) {
			t.Errorf("%s is in it, which tests alone link", only)
		}
	}
}

// The versions of what librdkafka's bundle holds are the bundle's, on both architectures.
func TestBundleIsWhatWeSay(t *testing.T) {
	modules, err := linked("..")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(modules, func(m [3]string) bool { return m[0] == rdkafka })
	if parts[0].version != strings.TrimPrefix(modules[i][1], "v") {
		t.Errorf("librdkafka %s, and the client is %s", parts[0].version, modules[i][1])
	}
	for _, arch := range []string{"amd64", "arm64"} {
		if err := missing(filepath.Join(modules[i][2], "kafka", "librdkafka_vendor", "librdkafka_glibc_linux_"+arch+".a"), parts); err != nil {
			t.Error(err)
		}
	}
	other := slices.Clone(parts[1:2])
	other[0].marker = "OpenSSL 9.9.9 "
	if missing(filepath.Join(modules[i][2], "kafka", "librdkafka_vendor", "librdkafka_glibc_linux_amd64.a"), other) == nil {
		t.Error("another version is found, too")
	}
}

// What is not Go joins the bill.
func TestComplete(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sbom.json")
	for text, taken := range map[string]bool{`{"bomFormat":"CycloneDX"}`: false, `x`: false, `{"bomFormat":"CycloneDX","components":[{"name":"a"}]}`: true} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := complete(file); (err == nil) != taken {
			t.Errorf("%s: %v", text, err)
		}
		if taken {
			holds(t, file)
		}
	}
}

func holds(t *testing.T, file string) {
	t.Helper()
	var bill struct {
		BomFormat  string
		Components []struct{ Name, Version string }
	}
	text, _ := os.ReadFile(file)
	if err := json.Unmarshal(text, &bill); err != nil || bill.BomFormat != "CycloneDX" || len(bill.Components) != 1+len(parts) || bill.Components[2].Name != "openssl" || bill.Components[2].Version != "3.5.6" {
		t.Errorf("%s %v", text, err)
	}
}
