package collector

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/golang/snappy"
	"github.com/grafana/loki-client-go/loki"
	"github.com/grafana/loki/pkg/push"
	"github.com/prometheus/common/config"

	"github.com/egresswarden/egresswarden/internal/version"
)

// poster makes one attempt to push to Loki. The client package's own Client
// cannot say what was accepted, gives up, and mixes streams in one request,
// where a 204 can hide a loss; so its configuration is used, and the request is
// made here.
type poster struct {
	target  string
	config  loki.Config
	client  *http.Client
	metrics *metrics
	buffers sync.Pool
}

// buffers are used again: a request is larger than all else of an event.
type buffers struct {
	plain, packed []byte
	entries       []push.Entry
	metadata      []push.LabelAdapter
}

func newPoster(target string, c loki.Config, m *metrics) (*poster, error) {
	client, err := config.NewClientFromConfig(c.Client, "egw-collector",
		config.WithHTTP2Disabled(), config.WithUserAgent("egw-collector/"+version.String()))
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", target, err)
	}
	return &poster{
		target: target, config: c, client: client, metrics: m,
		buffers: sync.Pool{New: func() any { return new(buffers) }},
	}, nil
}

// post sends entries of one label set, so that the answer stands for all of
// them: of a request with several Loki tells the last one's fate alone.
func (p *poster) post(ctx context.Context, labels string, entries []Entry) answer {
	b := p.buffers.Get().(*buffers)
	defer p.buffers.Put(b)
	body, err := b.encode(labels, entries)
	if err != nil {
		return answer{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, p.config.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.config.URL.String(), bytes.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	r.Header.Set("Content-Type", "application/x-protobuf")
	if p.config.TenantID != "" {
		r.Header.Set("X-Scope-OrgID", p.config.TenantID)
	}
	start := time.Now()
	a := p.do(r)
	p.metrics.requests.WithLabelValues(p.target, strconv.Itoa(a.status)).Observe(time.Since(start).Seconds())
	if a.ok() {
		p.metrics.bytes.WithLabelValues(p.target).Add(float64(len(body)))
	}
	return a
}

func (p *poster) do(r *http.Request) answer {
	response, err := p.client.Do(r)
	if err != nil {
		return answer{err: err}
	}
	a := readAnswer(response)
	if err := response.Body.Close(); a.err == nil {
		a.err = err
	}
	return a
}

// encode makes the body: a push request of one stream, snappy.
func (b *buffers) encode(labels string, entries []Entry) ([]byte, error) {
	defer b.forget()
	metadata := slices.Grow(b.metadata[:0], 2*len(entries)) // no later growth: entries point into it
	b.entries = b.entries[:0]
	for i := range entries {
		e := &entries[i]
		first := len(metadata)
		if e.ContainerID != "" {
			metadata = append(metadata, push.LabelAdapter{Name: "container_id", Value: e.ContainerID})
		}
		if e.EventID != "" {
			metadata = append(metadata, push.LabelAdapter{Name: "event_id", Value: e.EventID})
		}
		b.entries = append(b.entries, push.Entry{
			Timestamp: time.Unix(0, e.TimeNs), Line: e.Line, StructuredMetadata: metadata[first:len(metadata):len(metadata)],
		})
	}
	b.metadata = metadata
	request := push.PushRequest{Streams: []push.Stream{{Labels: labels, Entries: b.entries}}}
	size := request.Size()
	b.plain = slices.Grow(b.plain[:0], size)
	n, err := request.MarshalToSizedBuffer(b.plain[:size])
	if err != nil {
		return nil, fmt.Errorf("encode push request: %w", err)
	}
	b.packed = snappy.Encode(b.packed[:cap(b.packed)], b.plain[size-n:size])
	return b.packed, nil
}

// forget lets go of the texts.
func (b *buffers) forget() {
	clear(b.entries)
	clear(b.metadata)
}
