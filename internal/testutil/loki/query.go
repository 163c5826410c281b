package loki

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// Entry is a line as Loki holds it.
type Entry struct {
	Time   time.Time
	Line   string
	Labels map[string]string
	// Metadata is the structured metadata.
	Metadata map[string]string
}

// Sample is one value of a metric query.
type Sample struct {
	Labels map[string]string
	Value  float64
}

// pageSize is how many entries one request asks for at most. Loki's own limit
// is 5,000; see config.
const pageSize = 20_000

// Lines gives every entry of a log query from and including one time to before
// another, in the order of time, by as many requests as it takes. What Loki
// would show twice is there twice.
func (s *Server) Lines(ctx context.Context, query string, from, to time.Time) ([]Entry, error) {
	var all []Entry
	for {
		page, err := s.page(ctx, query, from, to)
		if err != nil {
			return nil, err
		}
		if len(page) < s.perPage {
			return append(all, page...), nil
		}
		// Of the last time there may be more: it is asked for once more.
		last := page[len(page)-1].Time
		cut, _ := slices.BinarySearchFunc(page, last, func(e Entry, at time.Time) int { return e.Time.Compare(at) })
		if cut == 0 {
			return nil, fmt.Errorf("query loki: %d entries at %s do not fit one page", len(page), last)
		}
		all, from = append(all, page[:cut]...), last
	}
}

// stream is a label set with its entries.
type stream struct {
	Stream map[string]string   `json:"stream"`
	Values [][]json.RawMessage `json:"values"`
}

func (s *Server) page(ctx context.Context, query string, from, to time.Time) ([]Entry, error) {
	var streams []stream
	err := s.query(ctx, "query_range", "streams", &streams, url.Values{
		"query": {query}, "direction": {"forward"}, "limit": {strconv.Itoa(s.perPage)}, "start": {nanoseconds(from)}, "end": {nanoseconds(to)},
	})
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, st := range streams {
		for _, v := range st.Values {
			e, err := entry(v)
			if err != nil {
				return nil, err
			}
			e.Labels = st.Stream
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int { return a.Time.Compare(b.Time) })
	return out, nil
}

// entry reads [time, line, {"structuredMetadata": ...}].
func entry(v []json.RawMessage) (e Entry, err error) {
	var at string
	var more struct {
		Metadata map[string]string `json:"structuredMetadata"`
	}
	if len(v) < 2 {
		return e, fmt.Errorf("query loki: an entry of %d parts", len(v))
	}
	err = errors.Join(json.Unmarshal(v[0], &at), json.Unmarshal(v[1], &e.Line))
	if len(v) > 2 {
		err = errors.Join(err, json.Unmarshal(v[2], &more))
	}
	ns, numeric := strconv.ParseInt(at, 10, 64)
	e.Time, e.Metadata = time.Unix(0, ns), more.Metadata
	return e, errors.Join(err, numeric)
}

// Instant gives the values of a metric query at a time.
func (s *Server) Instant(ctx context.Context, query string, at time.Time) ([]Sample, error) {
	var vector []struct {
		Metric map[string]string `json:"metric"`
		Value  []any             `json:"value"`
	}
	err := s.query(ctx, "query", "vector", &vector, url.Values{"query": {query}, "time": {nanoseconds(at)}})
	if err != nil {
		return nil, err
	}
	out := make([]Sample, len(vector))
	for i, v := range vector {
		if out[i], err = sample(v.Metric, v.Value); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Range gives every value of a metric query between two times.
func (s *Server) Range(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]Sample, error) {
	var matrix []struct {
		Metric map[string]string `json:"metric"`
		Values [][]any           `json:"values"`
	}
	err := s.query(ctx, "query_range", "matrix", &matrix, url.Values{
		"query": {query}, "start": {nanoseconds(from)}, "end": {nanoseconds(to)}, "step": {step.String()},
	})
	if err != nil {
		return nil, err
	}
	var out []Sample
	for _, m := range matrix {
		for _, v := range m.Values {
			x, err := sample(m.Metric, v)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
	}
	return out, nil
}

// sample reads [time, "value"].
func sample(labels map[string]string, v []any) (Sample, error) {
	if len(v) == 2 {
		if text, ok := v[1].(string); ok {
			value, err := strconv.ParseFloat(text, 64)
			return Sample{labels, value}, err
		}
	}
	return Sample{}, fmt.Errorf("query loki: %v is no sample", v)
}

// Ready is an error as long as Loki does not take pushes and queries.
func (s *Server) Ready(ctx context.Context) error {
	_, err := s.get(ctx, "/ready", nil)
	return err
}

// query asks and decodes a result of the kind that the query must have; an
// empty one may be of any.
func (s *Server) query(ctx context.Context, path, kind string, result any, values url.Values) error {
	body, err := s.get(ctx, "/loki/api/v1/"+path, values)
	if err != nil {
		return err
	}
	var answer struct {
		Data struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("query loki: %w", err)
	}
	if answer.Data.ResultType != kind && string(answer.Data.Result) != "[]" {
		return fmt.Errorf("query loki: %q gives a %s, want a %s", values.Get("query"), answer.Data.ResultType, kind)
	}
	return json.Unmarshal(answer.Data.Result, result)
}

func (s *Server) get(ctx context.Context, path string, values url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path+"?"+values.Encode(), nil)
	if err != nil {
		return nil, err
	}
	// Structured metadata apart from labels.
	req.Header.Set("X-Loki-Response-Encoding-Flags", "categorize-labels")
	return s.do(req)
}

func (s *Server) do(req *http.Request) ([]byte, error) {
	if s.options.Tenants {
		req.Header.Set("X-Scope-OrgID", Tenant)
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, err)
	}
	if res.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s %s: %s: %s", req.Method, req.URL.Path, res.Status, body)
	}
	return body, nil
}

func nanoseconds(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// Series gives the label sets of every stream that a selector matches, with
// entries between two times.
func (s *Server) Series(ctx context.Context, selector string, from, to time.Time) ([]map[string]string, error) {
	body, err := s.get(ctx, "/loki/api/v1/series", url.Values{"match[]": {selector}, "start": {nanoseconds(from)}, "end": {nanoseconds(to)}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data []map[string]string `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("series of loki: %w", err)
	}
	return answer.Data, nil
}
