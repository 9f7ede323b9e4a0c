package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// axeVersion is of axe-core, which looks for what keeps people from using a page.
const axeVersion = "4.14.1"

// Browser returns the path of a Chromium and the source of axe-core. Where one of them cannot be had the story is left out, and named.
func Browser(t T) (chromium, axe string) {
	t.Helper()
	chromium, err := findChromium()
	if err == nil {
		axe, err = fetchAxe()
	}
	if err == nil {
		return chromium, axe
	}
	without(t, "a browser (Chromium, and npm for axe-core)", err)
	return "", ""
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium is installed")
}

// fetchAxe takes axe-core from npm, once, and keeps it.
func fetchAxe() (string, error) {
	dir, err := cache()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "axe-"+axeVersion+".js")
	if text, err := os.ReadFile(file); err == nil {
		return string(text), nil
	}
	work, err := os.MkdirTemp(dir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, argv := range [][]string{{"npm", "pack", "--silent", "axe-core@" + axeVersion}, {"tar", "-xzf", "axe-core-" + axeVersion + ".tgz", "package/axe.min.js"}} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = work
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("axe-core could not be fetched: %s: %w\n%s", strings.Join(argv, " "), err, out)
		}
	}
	if err := os.Rename(filepath.Join(work, "package", "axe.min.js"), file); err != nil {
		return "", err
	}
	text, err := os.ReadFile(file)
	return string(text), err
}
