// Publishes through kpush from Go: go run . TOPIC KEY VALUE
package main

import (
	"cmp"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
)

func main() {
	door, topic, key, value := cmp.Or(os.Getenv("KPUSH_API_ADDR"), "127.0.0.1:9401"), os.Args[1], os.Args[2], os.Args[3]
	w, err := http.Post("http://"+door+"/topics/"+topic+"?key="+url.QueryEscape(key), "application/octet-stream", strings.NewReader(value))
	if err != nil {
		log.Fatal(err)
	}
	said, err := io.ReadAll(w.Body) // {"topic","partition","offset","timestamp"}, or {"error_code","message","retriable"}
	if err != nil || w.StatusCode != http.StatusOK {
		log.Fatal(w.Status, " ", string(said), err)
	}
	_, _ = os.Stdout.Write(said) // nobody waits for it
}
