//go:build check

package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// These are make check: they fetch tools, or build for minutes. What a machine lacks for one of them fails it, with a word on what to install.

const (
	kustomize   = "sigs.k8s.io/kustomize/kustomize/v5@v5.8.0"
	actionlint  = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
	govulncheck = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"
)

// imageMost bounds the image as it is unpacked, in bytes.
const imageMost = 25_000_000

// built is the image's binary.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kpush-check-")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "kpush")
	return file, static("..", file)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := built(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file)) // what stays is in the temporary folder
	}
	os.Exit(code)
}

// static builds it of a source tree.
func static(root, file string, env ...string) error {
	_, err := output(root, env, "make", "-s", "static", "OUT="+file)
	return err
}

// output is what a command says; an error has it, too.
func output(dir string, env []string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s%s", strings.Join(argv, " "), err, &out, &said)
	}
	return out.String(), nil
}

func binary(t *testing.T) string {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// The image is the binary, the certificate authorities and the notices.
func TestImageSize(t *testing.T) {
	var whole, packed int64
	for _, file := range []string{binary(t), "../LICENSE", "../NOTICE", "../THIRD_PARTY.txt", "/etc/ssl/certs/ca-certificates.crt"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var small bytes.Buffer
		w := gzip.NewWriter(&small)
		if _, err := w.Write(text); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		whole, packed = whole+int64(len(text)), packed+int64(small.Len())
	}
	t.Logf("%d bytes, %d to be pulled", whole, packed)
	if whole > imageMost {
		t.Errorf("The image has %d bytes, more than %d.", whole, imageMost)
	}
}

// The same source elsewhere, built of nothing, is the same binary.
func TestReproducible(t *testing.T) {
	first, other := sum(t, binary(t)), t.TempDir()
	files, err := output("..", nil, "git", "ls-files", "--cached", "--others", "--exclude-standard")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range strings.Fields(files) {
		text, err := os.ReadFile(filepath.Join("..", name))
		if os.IsNotExist(err) { // deleted, and not committed
			continue
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(other, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(other, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	again := filepath.Join(t.TempDir(), "again")
	if err := static(other, again, "GOCACHE="+t.TempDir(), "HOME="+t.TempDir(), "GOMODCACHE="+env(t, "GOMODCACHE")); err != nil {
		t.Fatal(err)
	}
	if sum(t, again) != first {
		t.Error("Two builds of the same source differ.")
	}
	named := filepath.Join(t.TempDir(), "named")
	if _, err := output("..", nil, "make", "-s", "static", "OUT="+named, "VERSION=other"); err != nil || sum(t, named) == sum(t, again) {
		t.Errorf("Another version is the same binary, too: %v", err)
	}
}

func env(t *testing.T, name string) string {
	t.Helper()
	value, err := output(".", nil, "go", "env", name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(value)
}

func sum(t *testing.T, file string) (sum [32]byte) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(text)
}

// The other architecture's binary is one, and runs.
func TestOtherArchitecture(t *testing.T) {
	arch, machine, triple := "arm64", elf.EM_AARCH64, "aarch64"
	if runtime.GOARCH == "arm64" {
		arch, machine, triple = "amd64", elf.EM_X86_64, "x86_64"
	}
	emulator := "qemu-" + triple + "-static"
	for _, tool := range []string{triple + "-linux-gnu-gcc", emulator} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: install gcc-%s-linux-gnu and qemu-user-static", err, strings.ReplaceAll(triple, "_", "-"))
		}
	}
	file := filepath.Join(t.TempDir(), "kpush")
	if err := static("..", file, "GOARCH="+arch, "CC="+triple+"-linux-gnu-gcc"); err != nil {
		t.Fatal(err)
	}
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	libraries, err := f.ImportedLibraries()
	if f.Machine != machine || err != nil || len(libraries) != 0 {
		t.Errorf("%v, %v, %v", f.Machine, libraries, err)
	}
	if said, err := output(".", nil, emulator, file, "-version"); err != nil || said != "kpush dev\n" {
		t.Errorf("%q %v", said, err)
	}
}

// What kustomize makes of deploy/kustomize is what Kubernetes takes, with the sidecar in it.
func TestKustomize(t *testing.T) {
	made, err := output("..", nil, "go", "run", kustomize, "build", "deploy/kustomize")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"restartPolicy: Always", "name: kpush-", "emptyDir: {}", "image: shop:latest"} {
		if !strings.Contains(made, want) {
			t.Errorf("%q is not in\n%s", want, made)
		}
	}
	file := filepath.Join(t.TempDir(), "made.yaml")
	if err := os.WriteFile(file, []byte(made), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := output("..", nil, "go", "run", "github.com/yannh/kubeconform/cmd/kubeconform", "-strict", "-kubernetes-version", "1.29.0",
		"-schema-location", "testdata/schemas/{{.ResourceKind}}{{.KindSuffix}}.json", file); err != nil {
		t.Error(err)
	}
}

// The forge's workflows say what they mean.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob("../.github/workflows/*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflow: %v", err)
	}
	if _, err := output(".", nil, append([]string{"go", "run", actionlint}, files...)...); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "wrong.yml")
	if err := os.WriteFile(wrong, bytes.Replace(text, []byte("runs-on:"), []byte("run-on:"), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := output(".", nil, "go", "run", actionlint, wrong); err == nil {
		t.Error("A workflow without a machine is taken.")
	}
}

// The bill of materials names what is linked: modules, Go, and what is in C.
func TestSBOM(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kpush.cdx.json")
	if err := sbom(binary(t), file); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct{ Components []struct{ Name string } }
	if err := json.Unmarshal(text, &bill); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range bill.Components {
		names = append(names, c.Name)
	}
	for name, linked := range map[string]bool{rdkafka: true, "openssl": true, "std": true, "github.com/prometheus/client_golang": true, "github.com/twmb/franz-go": false} {
		if slices.Contains(names, name) != linked {
			t.Errorf("%s is named: %t", name, !linked)
		}
	}
	t.Logf("%d components", len(names))
}

// Nothing that kpush calls is known to be vulnerable; as far as the database can be asked. It is asked last.
func TestVulnerabilities(t *testing.T) {
	db := t.TempDir()
	for name, text := range map[string]string{
		"index/db.json":      `{"modified":"2026-01-01T00:00:00Z"}`,
		"index/modules.json": `[{"path":"github.com/kelseyhightower/envconfig","vulns":[{"id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z"}]}]`,
		"ID/GO-2026-0001.json": `{"schema_version":"1.3.1","id":"GO-2026-0001","modified":"2026-01-01T00:00:00Z","published":"2026-01-01T00:00:00Z","details":"made up",` +
			`"affected":[{"package":{"name":"github.com/kelseyhightower/envconfig","ecosystem":"Go"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],` +
			`"ecosystem_specific":{"imports":[{"path":"github.com/kelseyhightower/envconfig","symbols":["Process"]}]}}]}`,
	} {
		file := filepath.Join(db, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := output("..", nil, "go", "run", govulncheck, "-db", "file://"+db, "."); err == nil || !strings.Contains(err.Error(), "GO-2026-0001") {
		t.Fatalf("A vulnerability that is made up is not found: %v", err)
	}
	if _, err := output("..", nil, "go", "run", govulncheck, "-tags", "otel", "."); err != nil {
		if strings.Contains(err.Error(), "fetching vulnerabilities") {
			t.Fatalf("NOT KNOWN: the database of vulnerabilities cannot be reached from here.\n%v", err)
		}
		t.Fatal(err)
	}
}
