package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kpush/kpush/api"
)

// columns prints rows under a head, unless that is empty, in columns.
func columns(out io.Writer, head string, rows [][]any) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if head != "" {
		fmt.Fprintln(w, head)
	}
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			fmt.Fprint(w, plain(fmt.Sprint(cell)))
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// plain keeps what others have written (keys, reasons) from steering the terminal.
func plain(text string) string {
	quoted := strconv.Quote(text)
	if quoted == `"`+text+`"` || strings.ReplaceAll(quoted, `\"`, `"`) == `"`+text+`"` {
		return text
	}
	return quoted
}

func offset(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func printStatus(out io.Writer, answer []byte) error {
	s, err := into[api.Status](answer)
	if err != nil {
		return err
	}
	ready, group := "ready", ""
	if !s.Ready {
		ready = "not ready"
	}
	if s.Group != "" {
		group = ", group " + s.Group
	}
	fmt.Fprintf(out, "kpush %s%s: %s, %s\n", s.Version, group, s.State, ready)
	for _, why := range s.Why {
		fmt.Fprintln(out, "  not ready:", plain(why))
	}
	for _, note := range s.Notes {
		fmt.Fprintln(out, "  note:", plain(note))
	}
	if s.Group == "" { // publish only
		_, err = fmt.Fprintln(out, published(s.Publish))
		return err
	}
	printService(out, s.Service)
	fmt.Fprintln(out, published(s.Publish))
	if l := s.Letters; l != nil {
		fmt.Fprintf(out, "dead letters in %s: %d sent, %d wait, %d sent back, %d not sent back%s\n", plain(l.Topic), l.Sent, l.Waiting, l.Redriven, l.Refused, clause(plain(l.Why)))
	}
	return printPartitions(out, s.Partitions)
}

func printService(out io.Writer, s api.Service) {
	is := "up"
	if !s.Up {
		is = "down"
	}
	fmt.Fprintf(out, "service %s: %d of %d requests in flight, %d messages wait, %d to be tried again\n", is, s.InFlight, s.Limit, s.Waiting, s.Failing)
	for _, h := range s.Hosts {
		if !h.Up {
			fmt.Fprintf(out, "  host %s is down\n", plain(h.Host))
		}
	}
	if at := s.PausedUntil; at != nil {
		fmt.Fprintf(out, "  it asked for a pause until %s\n", at.Format(time.RFC3339))
	}
}

func printPartitions(out io.Writer, partitions []api.Partition) error {
	var rows, blocked [][]any
	for _, p := range partitions {
		name := fmt.Sprintf("%s/%d", p.Topic, p.Partition)
		remark := p.Stall
		if remark == "" && len(p.Paused) > 0 {
			remark = "paused by " + strings.Join(p.Paused, ", ")
		}
		rows = append(rows, []any{name, p.Next, offset(p.Committed), offset(p.End), offset(p.Lag), offset(p.Open), fmt.Sprintf("%.1f", p.PerSecond),
			p.InFlight, p.Waiting, p.Failing, cmp.Or(remark, p.Bounded)})
		for _, b := range p.Blocked {
			blocked = append(blocked, []any{fmt.Sprintf("%s/%d", name, b.Offset), b.Key, b.Attempts, b.Status, b.Since.Format(time.RFC3339), strings.TrimSuffix(b.Reason+": "+b.Answer, ": ")})
		}
	}
	fmt.Fprintln(out)
	if err := columns(out, "PARTITION\tNEXT\tCOMMITTED\tEND\tLAG\tOPEN\tPER SECOND\tIN FLIGHT\tWAITING\tFAILING\tREMARK", rows); err != nil || len(blocked) == 0 {
		return err
	}
	fmt.Fprintln(out)
	return columns(out, "BLOCKED\tKEY\tATTEMPTS\tSTATUS\tSINCE\tREASON", blocked)
}

// published is the publish door in a line.
func published(p api.Publish) string {
	var more []string
	for reason, n := range p.FailedBy {
		more = append(more, fmt.Sprintf("%s %d", plain(reason), n))
	}
	for status, n := range p.Refused {
		more = append(more, fmt.Sprintf("answered %d: %d", status, n))
	}
	slices.Sort(more)
	if p.Silent != nil {
		more = append(more, "no acknowledgement since "+p.Silent.Format(time.RFC3339))
	}
	return fmt.Sprintf("published: %d sent, %d queued, %d on the volume, %d failed%s", p.Sent, p.Queued, p.Spooled, p.Failed, clause(strings.Join(more, ", ")))
}

// clause is text behind a line, where there is any.
func clause(text string) string {
	if text == "" {
		return ""
	}
	return ": " + text
}

// printSkipped prints pages of the skip log, each in its own columns.
func printSkipped() func(io.Writer, []byte) error {
	head := "MESSAGE\tKEY\tBYTES\tATTEMPTS\tSKIPPED\tRESENT\tREASON"
	return func(out io.Writer, answer []byte) error {
		list, err := into[api.SkippedList](answer)
		if err != nil {
			return err
		}
		var rows [][]any
		for _, m := range list.Skipped {
			resent := "-"
			if m.Resent != nil {
				resent = m.Resent.Format(time.RFC3339)
			}
			rows = append(rows, []any{fmt.Sprintf("%s/%d/%d", m.Topic, m.Partition, m.Offset), m.Key, m.Size, m.Attempts, m.At.Format(time.RFC3339), resent, m.Reason})
		}
		defer func() { head = "" }()
		return columns(out, head, rows)
	}
}

// printSkippedJSON makes one list of the pages.
func printSkippedJSON() func(io.Writer, []byte) error {
	before := `{"skipped":[`
	return func(out io.Writer, answer []byte) error {
		page, err := into[struct {
			Skipped []json.RawMessage
			Next    *int64
		}](answer)
		if err != nil {
			return err
		}
		for _, m := range page.Skipped {
			fmt.Fprintf(out, "%s%s", before, m)
			before = ","
		}
		if page.Next == nil {
			_, err = fmt.Fprintln(out, strings.TrimSuffix(before, ",")+"]}")
		}
		return err
	}
}

func printAudit(out io.Writer, answer []byte) error {
	list, err := into[api.Audit](answer)
	if err != nil {
		return err
	}
	var rows [][]any
	for _, m := range list.Audit {
		rows = append(rows, []any{m.Time.Format(time.RFC3339), m.Did, m.To, m.Who})
	}
	return columns(out, "TIME\tDID\tTO\tWHO", rows)
}

func printSkip(out io.Writer, answer []byte) error {
	count, err := into[api.SkipCount](answer)
	if err == nil {
		_, err = fmt.Fprintf(out, "skipped: %d\n%s", count.Skipped, line(count.Note))
	}
	return err
}

// line is a note on a line of its own, where there is any.
func line(note string) string {
	if note == "" {
		return ""
	}
	return plain(note) + "\n"
}

func printPlaces(out io.Writer, answer []byte) error {
	list, err := into[api.Places](answer)
	if err != nil {
		return err
	}
	for _, p := range list.Partitions {
		at := ""
		if p.Offset != nil {
			at = fmt.Sprintf("@%d", *p.Offset)
		}
		fmt.Fprintf(out, "%s/%d%s\n", plain(p.Topic), p.Partition, at)
	}
	_, err = io.WriteString(out, line(list.Note))
	return err
}

func printRedriven(out io.Writer, answer []byte) error {
	came, err := into[api.Redriven](answer)
	if err == nil {
		_, err = fmt.Fprintf(out, "sent back: %d, refused: %d, left: %d\n", came.Sent, came.Refused, came.Left)
	}
	return err
}

// printResent fails where one was not delivered: a script sees it by the exit code.
func printResent(out io.Writer, answer []byte) error {
	list, err := into[api.ResentList](answer)
	if err != nil {
		return err
	}
	for _, r := range list.Resent {
		came := "delivered"
		if !r.Delivered {
			came, err = "not delivered: "+plain(r.Reason), errNotAll
		}
		fmt.Fprintf(out, "%s/%d/%d %s\n", plain(r.Topic), r.Partition, r.Offset, came)
	}
	return err
}
