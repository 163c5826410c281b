package loki

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
)

// Push stores entries as they would come from a collector, each under its own
// labels.
func (s *Server) Push(ctx context.Context, entries ...Entry) error {
	type sent struct {
		Stream map[string]string `json:"stream"`
		Values []any             `json:"values"`
	}
	var streams []*sent
	by := map[string]*sent{}
	for _, e := range entries {
		labels, err := json.Marshal(e.Labels)
		if err != nil {
			return err
		}
		st := by[string(labels)]
		if st == nil {
			st = &sent{Stream: e.Labels}
			by[string(labels)], streams = st, append(streams, st)
		}
		value := []any{nanoseconds(e.Time), e.Line}
		if len(e.Metadata) > 0 {
			value = append(value, e.Metadata)
		}
		st.Values = append(st.Values, value)
	}
	for _, st := range streams { // one each: a 204 for many can hide a loss
		if err := s.push(ctx, object{"streams": []any{st}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) push(ctx context.Context, body object) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/loki/api/v1/push", bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	_, err = s.do(req)
	return err
}

// Flush writes what is in memory to the store.
func (s *Server) Flush(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/flush", nil)
	if err != nil {
		return err
	}
	_, err = s.do(req)
	return err
}
