package api

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// formBody is a form of the page as the JSON of the same call. A seek's "at" is what -seek takes behind its @.
func formBody(path string, form []byte) ([]byte, error) {
	values, err := url.ParseQuery(string(form))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the form cannot be read")
	}
	call := map[string]any{}
	for name, all := range values {
		text := strings.TrimSpace(all[0])
		switch {
		case len(all) > 1:
			return nil, refuse(http.StatusBadRequest, "the form has %s twice", shown(name))
		case path == "/seek" && name == "at":
			for field, value := range SeekTo(text) {
				call[field] = value
			}
		case slices.Contains([]string{"partition", "offset", "limit"}, name):
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, refuse(http.StatusBadRequest, "%s is a number, and not %s", name, shown(text))
			}
			call[name] = n
		case slices.Contains([]string{"blocked", "all"}, name):
			call[name] = text == "true"
		default:
			call[name] = text
		}
	}
	return json.Marshal(call)
}

// SeekTo is where a seek goes, as fields of its call: a number is an offset, beginning and end are themselves, anything else has to be
// a time.
func SeekTo(at string) map[string]any {
	if n, err := strconv.ParseInt(at, 10, 64); err == nil {
		return map[string]any{"offset": n}
	}
	if at == "beginning" || at == "end" {
		return map[string]any{"to": at}
	}
	return map[string]any{"timestamp": at}
}

// saying is what the page tells once of a form's call.
type saying struct {
	Text   string
	Failed bool
}

// sayings are those that were not told yet, by the names in the page's address: the newest few. What is said is never in the address
// itself, where a link could put words into kpush's mouth.
type sayings struct {
	mu    sync.Mutex
	all   map[string]saying
	order []string
}

const sayingsMost = 32

// tell answers a form: back to the page, which will say what came of it.
func (s *sayings) tell(w http.ResponseWriter, r *http.Request, said string, err error) {
	news, id := saying{Text: said}, rand.Text()
	if err != nil {
		news = saying{"Not done: " + oneLine(err) + ".", true}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]saying{}
	}
	s.all[id], s.order = news, append(s.order, id)
	if len(s.order) > sayingsMost {
		delete(s.all, s.order[0])
		s.order = s.order[1:]
	}
	http.Redirect(w, r, "/?said="+id, http.StatusSeeOther)
}

// of is what there is to say, nil for nothing.
func (s *sayings) of(id string) *saying {
	s.mu.Lock()
	defer s.mu.Unlock()
	if news, ok := s.all[id]; ok {
		return &news
	}
	return nil
}
