package collector

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// answer is what became of one request.
type answer struct {
	status     int // 0: none came
	body       string
	location   string
	retryAfter time.Duration
	err        error
}

// mostBody is how much of an answer is read: Loki names ten entries of a batch.
const mostBody = 16 << 10

func readAnswer(r *http.Response) answer {
	body, err := io.ReadAll(io.LimitReader(r.Body, mostBody))
	return answer{
		status: r.StatusCode, body: strings.TrimSpace(string(body)), location: r.Header.Get("Location"),
		retryAfter: retryAfter(r.Header.Get("Retry-After")), err: err,
	}
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(text string) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil {
		return min(time.Duration(max(seconds, 0))*time.Second, mostRetryAfter)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), mostRetryAfter)
	}
	return 0
}

// ok is Loki's own answer to a push. A 200 may be anybody's.
func (a answer) ok() bool { return a.err == nil && a.status == http.StatusNoContent }

// refused says that repeating the same request is of no use, if Loki says so.
func (a answer) refused() bool {
	return a.status == http.StatusBadRequest || a.status == http.StatusRequestEntityTooLarge || a.status == http.StatusUnprocessableEntity
}

func (a answer) fault() bool { return a.status >= 500 }

// The forms of Loki's refusals of an entry or a stream, see its pkg/validation
// and pkg/chunkenc, with our word for each.
var forms = []struct {
	reason string
	form   *regexp.Regexp
}{
	{"too_old", regexp.MustCompile(`entry for stream '.*' has timestamp too old: `)},
	{"too_new", regexp.MustCompile(`entry for stream '.*' has timestamp too new: `)},
	{"too_far_behind", regexp.MustCompile(`entry too far behind, entry timestamp is: `)},
	{"too_far_behind", regexp.MustCompile(`entry out of order`)},
	{"too_long", regexp.MustCompile(`(?i)max entry size '\d+' bytes exceeded for stream '`)},
	{"metadata", regexp.MustCompile(`stream '.*' (includes structured metadata, but this feature is disallowed|has structured metadata too large|has too many structured metadata labels)`)},
	{"labels", regexp.MustCompile(`entry for stream '.*' has \d+ label names; limit \d+|stream '.*' has (label name too long|label value too long|duplicate label name)`)},
	{"labels", regexp.MustCompile(`error parsing labels '.*' with error: |couldn't parse labels`)},
}

// reason is our word for the refusal, and whether it has a form of Loki's.
func (a answer) reason() (string, bool) {
	for _, f := range forms {
		if f.form.MatchString(a.body) {
			return f.reason, true
		}
	}
	switch {
	case a.status == http.StatusRequestEntityTooLarge:
		return "too_large", false
	case a.fault():
		return "server_error", false
	}
	return "refused", false
}

var oldestAcceptable = regexp.MustCompile(`oldest acceptable timestamp is: (\S+?)'?[,;.]?(?:\s|$)`)

// oldest is the time before which Loki takes nothing of the stream, to the
// second; zero if it does not say.
func (a answer) oldest() time.Time {
	m := oldestAcceptable.FindStringSubmatch(a.body)
	if m == nil {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, m[1])
	if err != nil {
		return time.Time{}
	}
	return t
}

// shortBody is what a message quotes.
func (a answer) shortBody() string {
	text := strings.Join(strings.Fields(a.body), " ")
	const most = 300
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}
