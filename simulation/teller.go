package simulation

import (
	"context"
	"log/slog"
)

// teller writes the log of a life into the history.
type teller struct {
	w    *World
	who  string
	with string
}

func (t *teller) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (t *teller) WithGroup(string) slog.Handler                    { return t }

func (t *teller) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *t
	for _, a := range attrs {
		c.with += " " + a.String()
	}
	return &c
}

func (t *teller) Handle(_ context.Context, r slog.Record) error {
	text := r.Message + t.with
	r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
	t.w.with(func() { t.w.say("  %s: %s", t.who, text) })
	return nil
}
