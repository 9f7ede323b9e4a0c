package main

import (
	"bytes"
	"fmt"
	"os"
)

// part is a library in C that the binary holds: librdkafka's static bundle brings it, or the linker.
type part struct {
	name, version, license string
	marker                 string // bytes that the bundle has of this version
	notice                 string // a file in licenses; without one it is in the bundle's LICENSES.txt, or the Apache License
}

// parts are held against the bundle by a test: a new one of it has other versions. librdkafka's own is the Go client's.
var parts = []part{
	{name: "librdkafka", version: "2.15.0", license: "BSD-2-Clause", marker: "librdkafka"},
	{name: "openssl", version: "3.5.6", license: "Apache-2.0", marker: "OpenSSL 3.5.6 "},
	{name: "curl", version: "8.20.0", license: "curl", marker: "libcurl/8.20.0\x00", notice: "curl.txt"},
	{name: "zlib", version: "1.3.2", license: "Zlib", marker: " inflate 1.3.2 Copyright", notice: "zlib.txt"},
	{name: "zstd", version: "1.5.7", license: "BSD-3-Clause", marker: "1.5.7\x00", notice: "zstd.txt"},
	{name: "lz4", version: "1.9.4", license: "BSD-2-Clause", marker: "1.9.4\x00"},
	{name: "cjson", license: "MIT", marker: "cJSON"},
	{name: "snappy", license: "BSD-3-Clause", marker: "nappy"},
	{name: "glibc", license: "LGPL-2.1-or-later", notice: "lgpl-2.1.txt"}, // of the machine that links
}

// missing is an error where an archive does not hold the parts in the versions that are said.
func missing(file string, of []part) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for _, p := range of {
		if !bytes.Contains(text, []byte(p.marker)) {
			return fmt.Errorf("%s has no %s %s: correct parts in release/bundle.go, and run go run ./release notices", file, p.name, p.version)
		}
	}
	return nil
}
