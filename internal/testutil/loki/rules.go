package loki

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Rule is how an alert rule stands at the ruler.
type Rule struct {
	Name string `json:"name"`
	// State is inactive, pending or firing.
	State string `json:"state"`
	// Health is ok, unknown before the first evaluation, or err with LastError.
	Health         string    `json:"health"`
	LastError      string    `json:"lastError"`
	LastEvaluation time.Time `json:"lastEvaluation"`
}

// Rules is how every rule stands.
func (s *Server) Rules(ctx context.Context) ([]Rule, error) {
	body, err := s.get(ctx, "/prometheus/api/v1/rules", nil)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []Rule `json:"rules"`
			} `json:"groups"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("rules of loki: %w", err)
	}
	var out []Rule
	for _, g := range answer.Data.Groups {
		out = append(out, g.Rules...)
	}
	return out, nil
}

// Evaluated is an error until every rule was evaluated after a time, without an
// error of its own.
func (s *Server) Evaluated(ctx context.Context, after time.Time) error {
	rules, err := s.Rules(ctx)
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return fmt.Errorf("the ruler has no rules yet")
	}
	for _, r := range rules {
		if r.Health == "err" {
			return fmt.Errorf("rule %s: %s", r.Name, r.LastError)
		}
		if !r.LastEvaluation.After(after) {
			return fmt.Errorf("rule %s was last evaluated at %s", r.Name, r.LastEvaluation)
		}
	}
	return nil
}
