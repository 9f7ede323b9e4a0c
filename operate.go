package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/kpush/kpush/api"
	"github.com/kpush/kpush/config"
)

// order is a command for the running process: the call it makes, and who prints the answer.
type order struct {
	path  string
	call  map[string]any // nil: GET
	print func(io.Writer, []byte) error
	next  func(answer []byte) (path string) // where an answer goes on, "" where it does not; nil: it has one page
}

// orders are the commands for the running process, by their flags.
var orders = map[string]func(args, topics []string) (order, error){
	"status":  reading("/status", printStatus),
	"skipped": listing,
	"audit":   reading("/audit", printAudit),
	"skip":    skipping,
	"pause":   suspending("/pause"),
	"resume":  suspending("/resume"),
	"seek":    seeking,
	"resend":  resending,
	"redrive": redriving,
}

// orderOf is the order that the command line begins with; ok is false for any other command line.
func orderOf(args []string) (name string, rest []string, ok bool) {
	if len(args) == 0 || !strings.HasPrefix(args[0], "-") {
		return "", nil, false
	}
	name, value, given := strings.Cut(strings.TrimPrefix(args[0][1:], "-"), "=")
	if rest = args[1:]; given {
		rest = append([]string{value}, rest...)
	}
	return name, rest, orders[name] != nil
}

// operate gives an order to the running process and prints what came of it; it returns the exit code.
func operate(name string, args []string, out io.Writer) int {
	caller, err := config.LoadCaller(os.Environ())
	if err != nil {
		return exit(configError{err})
	}
	o, err := orders[name](args, caller.Topics)
	if err != nil {
		return exit(configError{fmt.Errorf("-%s: %w; see kpush -help", name, err)})
	}
	c := api.Client{Addr: caller.Addr, Token: caller.Token, Name: "kpush -" + name}
	if o.call != nil {
		answer, err := c.Post(o.path, o.call)
		if err == nil {
			err = o.print(out, answer)
		}
		return exit(err)
	}
	for path := o.path; path != "" && err == nil; {
		var answer []byte
		if answer, err = c.Get(path); err == nil {
			err = o.print(out, answer)
		}
		if path = ""; err == nil && o.next != nil {
			path = o.next(answer)
		}
	}
	return exit(err)
}

func reading(path string, print func(io.Writer, []byte) error) func(args, _ []string) (order, error) {
	return func(args, _ []string) (order, error) {
		switch {
		case len(args) == 1 && (args[0] == "-json" || args[0] == "--json"):
			return order{path: path, print: printRaw}, nil
		case len(args) > 0:
			return order{}, errors.New("takes -json, or nothing")
		}
		return order{path: path, print: print}, nil
	}
}

// listing reads the skip log page by page.
func listing(args, topics []string) (order, error) {
	first := fmt.Sprintf("/skipped?limit=%d", api.SkippedMost)
	o, err := reading(first, printSkipped())(args, topics)
	if len(args) > 0 {
		o.print = printSkippedJSON()
	}
	o.next = func(answer []byte) string {
		if page, err := into[api.SkippedList](answer); err == nil && page.Next != nil {
			return fmt.Sprintf("%s&after=%d", first, *page.Next)
		}
		return ""
	}
	return o, err
}

func skipping(args, topics []string) (order, error) {
	var call map[string]any
	var err error
	switch {
	case len(args) == 1 && args[0] == "blocked":
		call = map[string]any{"blocked": true}
	case len(args) == 1 && strings.HasPrefix(args[0], "key="):
		if len(topics) != 1 {
			return order{}, errors.New("KPUSH_TOPIC is not one topic; write -skip TOPIC key=KEY")
		}
		call, err = keyed(topics[0], args[0])
	case len(args) == 2 && strings.HasPrefix(args[1], "key="):
		call, err = keyed(args[0], args[1])
	case len(args) == 1:
		call, err = place(args[0], 3)
	default:
		err = errors.New("say what: TOPIC/PARTITION/OFFSET, blocked, key=KEY, or TOPIC key=KEY")
	}
	return order{path: "/skip", call: call, print: printSkip}, err
}

// keyed is the call for a topic's messages with the key of key=KEY, which is as -status shows it.
func keyed(topic, key string) (map[string]any, error) {
	call, err := api.KeyFrom(strings.TrimPrefix(key, "key="))
	if err == nil {
		call["topic"] = topic
	}
	return call, err
}

func suspending(path string) func(args, _ []string) (order, error) {
	return func(args, _ []string) (order, error) {
		switch len(args) {
		case 0:
			return order{path: path, call: map[string]any{}, print: printPlaces}, nil
		case 1:
			call, err := place(args[0], 1, 2)
			return order{path: path, call: call, print: printPlaces}, err
		}
		return order{}, errors.New("takes one TOPIC or TOPIC/PARTITION, or nothing for all")
	}
}

func seeking(args, _ []string) (order, error) {
	if len(args) != 1 || !strings.Contains(args[0], "@") {
		return order{}, errors.New("say where to: TOPIC[/PARTITION]@OFFSET, @TIME, @beginning or @end")
	}
	what, at, _ := strings.Cut(args[0], "@")
	call, err := place(what, 1, 2)
	if err != nil {
		return order{}, err
	}
	for field, value := range api.SeekTo(at) {
		call[field] = value
		if n, number := value.(int64); number && n < 0 {
			return order{}, fmt.Errorf("%d is no offset", n)
		}
		if text, _ := value.(string); field == "timestamp" {
			if _, err := api.Timestamp(text); err != nil {
				return order{}, fmt.Errorf("%q is no offset, and neither beginning nor end, so it has to be a time: %w", at, err)
			}
		}
	}
	return order{path: "/seek", call: call, print: printPlaces}, nil
}

func resending(args, _ []string) (order, error) {
	if len(args) != 1 {
		return order{}, errors.New("say what: TOPIC/PARTITION/OFFSET, or all")
	}
	if args[0] == "all" {
		return order{path: "/resend", call: map[string]any{"all": true}, print: printResent}, nil
	}
	call, err := place(args[0], 3)
	return order{path: "/resend", call: call, print: printResent}, err
}

func redriving(args, _ []string) (order, error) {
	if len(args) == 1 {
		if n, err := strconv.Atoi(args[0]); err == nil && n > 0 {
			return order{path: "/redrive", call: map[string]any{"limit": n}, print: printRedriven}, nil
		}
	}
	return order{}, errors.New("say how many dead letters to send back at the most, such as 100")
}

// place reads TOPIC, TOPIC/PARTITION or TOPIC/PARTITION/OFFSET, of so many parts.
func place(text string, parts ...int) (map[string]any, error) {
	all := strings.Split(text, "/")
	form := []string{"", "TOPIC", "TOPIC/PARTITION", "TOPIC/PARTITION/OFFSET"}[slices.Max(parts)]
	if !slices.Contains(parts, len(all)) || all[0] == "" {
		return nil, fmt.Errorf("%q is not %s", text, form)
	}
	call := map[string]any{"topic": all[0]}
	for i, name := range []string{"partition", "offset"}[:len(all)-1] {
		n, err := strconv.ParseInt(all[i+1], 10, 32+32*i)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("%q is not %s", text, form)
		}
		call[name] = n
	}
	return call, nil
}

// errNotAll ends a resend that the service did not take whole.
var errNotAll = errors.New("not all of them were delivered")

func printRaw(out io.Writer, answer []byte) error {
	_, err := out.Write(answer)
	return err
}

// into is an answer as its type.
func into[T any](answer []byte) (t T, err error) {
	if err = json.Unmarshal(answer, &t); err != nil {
		err = fmt.Errorf("kpush's answer cannot be read: %w", err)
	}
	return t, err
}
