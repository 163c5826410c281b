package loki

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

const loopback = "127.0.0.1"

func (s *Server) configPath() string { return filepath.Join(s.dir, "loki.json") }

// configure writes the configuration (JSON is YAML) with ports of its own.
func (s *Server) configure() error {
	port, grpc, err := freePorts()
	if err != nil {
		return err
	}
	s.URL = fmt.Sprintf("http://%s:%d", loopback, port)
	config := s.config(port, grpc)
	merge(config, s.options.Config)
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(s.rulesDir(), 0o700), os.WriteFile(s.configPath(), text, 0o600)); err != nil {
		return err
	}
	if s.options.Rules == "" {
		return nil
	}
	return s.SetRules(s.options.Rules)
}

func (s *Server) rulesDir() string { return filepath.Join(s.dir, "rules", s.tenant()) }

// SetRules replaces the rules; the ruler looks for them as often as it evaluates.
// A query of two parts reads one after the other: rules that come when all lines
// are there see none of them alone.
func (s *Server) SetRules(text string) error {
	aside := filepath.Join(s.dir, "rules.yaml") // the ruler would read half of it
	if err := os.WriteFile(aside, []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(aside, filepath.Join(s.rulesDir(), "rules.yaml"))
}

// tenant is the folder of the rules, and the tenant of the own requests.
func (s *Server) tenant() string {
	if s.options.Tenants {
		return Tenant
	}
	return "fake"
}

// object is a part of the configuration.
type object = map[string]any

// config is one process with everything in it. Where a value matters to what
// is stored or found, the shipped advice in docs/OPERATIONS.md is the same.
func (s *Server) config(port, grpc int) object {
	const messages = 64 << 20 // a page of a test's query is larger than 4 MiB
	return object{
		"auth_enabled": s.options.Tenants,
		"server": object{
			"log_level":           "warn",
			"http_listen_address": loopback, "http_listen_port": port, "grpc_listen_address": loopback, "grpc_listen_port": grpc,
			"grpc_server_max_recv_msg_size": messages, "grpc_server_max_send_msg_size": messages,
		},
		"common": object{
			"path_prefix": s.dir, "instance_addr": loopback, "replication_factor": 1, "ring": object{"kvstore": object{"store": "inmemory"}},
			"storage": object{"filesystem": object{"chunks_directory": filepath.Join(s.dir, "chunks"), "rules_directory": filepath.Join(s.dir, "rules")}},
		},
		"schema_config": object{"configs": []object{{
			"from": "2024-01-01", "store": "tsdb", "object_store": "filesystem", "schema": "v13", "index": object{"prefix": "index_", "period": "24h"},
		}}},
		"limits_config": object{
			"discover_service_name": []string{}, "discover_log_levels": false, "allow_structured_metadata": true,
			"shard_streams": object{"enabled": false}, "max_entries_limit_per_query": pageSize,
		},
		// Found at once, whatever its age.
		"querier": object{"query_ingesters_within": "0s"},
		"ingester": object{
			"query_store_max_look_back_period": "-1ns",
			"lifecycler":                       object{"min_ready_duration": "0s"},
		},
		// Ready in half a second instead of a quarter of a minute.
		"frontend_worker": object{"frontend_address": fmt.Sprintf("%s:%d", loopback, grpc), "grpc_client_config": object{"max_recv_msg_size": messages, "max_send_msg_size": messages}},
		// What was sent to Loki is there for the next look.
		"query_range": object{"cache_results": false},
		"ruler":       s.ruler(),
		"analytics":   object{"reporting_enabled": false},
	}
}

// merge puts what more says into a part of the configuration.
func merge(into, more object) {
	for key, value := range more {
		have, isPart := into[key].(object)
		if part, ok := value.(object); ok && isPart {
			merge(have, part)
			continue
		}
		into[key] = value
	}
}

func (s *Server) ruler() object {
	every := s.options.Evaluate
	if every == 0 {
		every = time.Second
	}
	return object{
		"storage":             object{"type": "local", "local": object{"directory": filepath.Join(s.dir, "rules")}},
		"rule_path":           filepath.Join(s.dir, "ruler"),
		"evaluation_interval": every.String(), "poll_interval": every.String(),
		"alertmanager_url": s.options.Alertmanager, "enable_alertmanager_v2": true,
		"ring": object{"kvstore": object{"store": "inmemory"}},
	}
}

// freePorts are two that nobody listens on, below those that the kernel gives
// to connections.
func freePorts() (int, int, error) {
	var free []int
	for range 100 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err != nil {
			continue
		}
		l.Close()
		if len(free) == 1 && free[0] != port {
			return free[0], port, nil
		}
		free = []int{port}
	}
	return 0, 0, errors.New("no free ports on " + loopback)
}
