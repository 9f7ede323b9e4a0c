package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/kpush/kpush/e2e/rig"
)

var update = flag.Bool("update", false, "save docs/status.png and docs/status-390.png")

// browser is a window onto a sidecar's status page.
type browser struct {
	*testing.T
	ctx context.Context
	axe string
}

// open opens the page of a running sidecar.
func open(t *testing.T, sc *rig.Sidecar) *browser {
	t.Helper()
	chromium, axe := rig.Browser(t)
	bounded, cancel := context.WithTimeout(t.Context(), patience)
	ctx, end := chromedp.NewContext(bounded, chromedp.WithAllocatorOptions(append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.Flag("no-sandbox", true))...))
	t.Cleanup(func() { end(); cancel() })
	b := &browser{t, ctx, axe}
	b.size(1280, 900)
	b.do("the page", chromedp.Navigate("http://"+sc.API()+"/"))
	return b
}

func (b *browser) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

func (b *browser) size(width, height int64) {
	b.Helper()
	b.do("the window's size", chromedp.EmulateViewport(width, height))
}

// look is what an expression of JavaScript says.
func look[T any](b *browser, expression string) T {
	b.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return value
}

// shows waits until the page's text has something; it comes by itself.
func (b *browser) shows(text string) {
	b.Helper()
	quoted, _ := json.Marshal(text) // a string
	rig.Within(b, 20*time.Second, fmt.Sprintf("%q on the page", text), func() bool {
		return look[bool](b, "document.body.innerText.includes("+string(quoted)+")")
	})
}

// usable wants axe-core to find nothing in the way of anybody.
func (b *browser) usable(how string) {
	b.Helper()
	look[bool](b, b.axe+"; true")
	look[bool](b, "document.querySelectorAll('details').forEach(d => d.open = true); window.found = null; axe.run().then(r => { window.found = r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html).join(' ')); }); true")
	rig.Within(b, time.Minute, "axe-core's verdict", func() bool { return look[bool](b, "window.found !== null") })
	for _, violation := range look[[]string](b, "window.found") {
		b.Errorf("%s: %s", how, violation)
	}
	look[bool](b, "document.querySelectorAll('details').forEach(d => d.open = false); true")
}

func (b *browser) dark(scheme string) {
	b.Helper()
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		b.Fatal(err)
	}
}

// picture saves what the window shows, where asked.
func (b *browser) picture(name string) {
	b.Helper()
	if !*update {
		return
	}
	image, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join("..", "docs", name), image, 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// stuckAt is a sidecar of two partitions, and a message in the first of them that the service refuses, one in the second that it skips,
// and one that it has written to the dead letter topic. Somebody has published, and somebody to a topic that there is not.
func stuckAt(t *testing.T, offset int64) (sc *rig.Sidecar, svc *rig.Service, topic string) {
	t.Helper()
	k := kafka(t)
	svc = service(t)
	svc.Rule(func(r *rig.Request) rig.Action {
		switch {
		case r.Partition == 0 && r.Offset == offset:
			return rig.Action{Status: http.StatusInternalServerError}
		case r.Partition == 1 && r.Offset == 3:
			return rig.Action{Header: map[string]string{"Kafka-Action": "skip"}}
		case r.Partition == 1 && r.Offset == 4:
			return rig.Action{Header: map[string]string{"Kafka-Action": "dead-letter"}}
		}
		return rig.Action{}
	})
	topic = k.Topic(t, 2)
	other := k.Topic(t, 1)
	k.ProduceEvenly(t, topic, 2, 100, 20)
	sc = sidecar(t, k, topic, svc, "KPUSH_DEAD_LETTER_TOPIC="+k.Topic(t, 1), "KPUSH_RETRY_NUMS=100000")
	sc.Ready(t, patience)
	rig.Within(t, patience, "the 12th attempt", func() bool { return svc.Attempts() >= 55+12 })
	for to, want := range map[string]int{other: http.StatusOK, topic + "-gone": http.StatusNotFound} {
		if code, answer, err := publish(sc, to, "v"); code != want || err != nil {
			t.Fatal(to, code, answer, err)
		}
	}
	return sc, svc, topic
}

// TestTheStatusPage shows what goes on by itself, to everybody: narrow, dark, without scripts, to a screen reader.
func TestTheStatusPage(t *testing.T) {
	sc, _, topic := stuckAt(t, 5)
	b := open(t, sc)
	b.shows(topic + "/0/5")
	b.shows("running, ready")
	for _, section := range []string{"The skip log holds 1. Here", topic + "/1/3", "of them from " + topic + "\n1", "Published\n1\n", "Requests answered 404\n1"} {
		b.shows(section)
	}
	skip := fmt.Sprintf("document.getElementById('skip-%s/0/5')", topic)
	look[bool](b, skip+".open = true; "+skip+".querySelector('button').focus(); document.querySelector('#seek-"+topic+"-1 input[name=at]').value = '12'; true")
	asOf := look[string](b, "document.querySelector('main').lastElementChild.textContent")
	rig.Within(t, 20*time.Second, "a page that is new by itself", func() bool {
		return look[string](b, "document.querySelector('main').lastElementChild.textContent") != asOf
	})
	if !look[bool](b, skip+".open && "+skip+".contains(document.activeElement) && document.activeElement.tagName === 'BUTTON' && document.querySelector('#seek-"+topic+"-1 input[name=at]').value === '12'") {
		t.Error("What was open, in focus or typed is lost when the page becomes new.")
	}
	look[bool](b, skip+".open = false; true")
	b.size(1280, 1250)
	b.picture("status.png")
	if look[bool](b, "const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s); window.ran === true") {
		t.Error("A script that kpush did not write runs on the page.")
	}
	for _, scheme := range []string{"light", "dark"} {
		b.dark(scheme)
		b.usable(scheme)
	}
	b.dark("light")
	b.size(390, 844)
	if width := look[int](b, "document.documentElement.scrollWidth"); width > 390 {
		t.Errorf("At 390 pixels the page is %d wide.", width)
	}
	b.usable("at 390 pixels")
	b.picture("status-390.png")
	if _, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	b.do("the page without scripts", chromedp.Navigate("http://"+sc.API()+"/"))
	text, err := chromedp.Run(b.ctx, chromedp.Text("main"))
	if err != nil || !strings.Contains(text, topic+"/0/5") || !strings.Contains(text, "running, ready") {
		t.Errorf("Without scripts the page says (%v)\n%s", err, text)
	}
}

// TestCommandsOnTheStatusPage: what is clicked is done, and said.
func TestCommandsOnTheStatusPage(t *testing.T) {
	sc, svc, topic := stuckAt(t, 5)
	b := open(t, sc)
	press := func(id, says string) {
		t.Helper()
		box := fmt.Sprintf("[id=%q]", id)
		rig.Within(t, 20*time.Second, id+", opened", func() bool { // the page may become new under the pointer
			if !look[bool](b, "document.querySelector('"+box+"')?.open === true") {
				_ = chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(box+" > summary")))
			}
			return look[bool](b, "document.querySelector('"+box+"')?.open === true")
		})
		if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(box+" button"))); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		b.shows(says)
	}
	press("skip-"+topic+"/0/5", "Skipped: 1.")
	svc.Await(t, 99, patience)
	b.shows("None keeps failing.")
	b.shows("of them from " + topic + "\n2")
	press("redrive", "Sent back: 2, refused: 0, left: 0.")
	svc.Await(t, 101, patience)
	if s := sc.Call(t, 200, "GET", "/status", ""); fmt.Sprint(s["deadLetters"].(map[string]any)["redriven"]) != "2" {
		t.Errorf("The status says %v", s["deadLetters"])
	}
	press("pause-"+topic+"-1", "Paused: "+topic+"/1.")
	b.shows("paused: operator")
	press("resume-"+topic+"-1", "Resumed: "+topic+"/1.")
	b.do("where to", chromedp.Click(chromedp.CSS(fmt.Sprintf("[id=%q] > summary", "seek-"+topic+"-1"))), chromedp.SendKeys(chromedp.CSS(fmt.Sprintf("[id=%q]", "at-"+topic+"-1")), "beginning"))
	if _, err := chromedp.RunResponse(b.ctx, chromedp.Click(chromedp.CSS(fmt.Sprintf("[id=%q] button", "seek-"+topic+"-1")))); err != nil {
		t.Fatal(err)
	}
	b.shows("Goes on: " + topic + "/1 at 0.")
	rig.Within(t, patience, "its 50 messages once more", func() bool { return svc.Repeats() >= 50 })
	sc.Shut(t, 10*time.Second)
}
