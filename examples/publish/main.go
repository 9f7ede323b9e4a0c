// Command publish publishes through kpush from Go: publish TOPIC KEY VALUE
package main

import (
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
)

func main() {
	topic, key, value := os.Args[1], os.Args[2], os.Args[3]
	w, err := http.Post("http://127.0.0.1:9401/topics/"+topic+"?key="+url.QueryEscape(key), "application/octet-stream", strings.NewReader(value))
	if err != nil {
		log.Fatal(err)
	}
	said, err := io.ReadAll(w.Body) // {"topic","partition","offset","timestamp"}, or {"error_code","message","retriable"}
	if err != nil || w.StatusCode != http.StatusOK {
		log.Fatal(w.Status, " ", string(said), err)
	}
	log.Print(string(said))
}
