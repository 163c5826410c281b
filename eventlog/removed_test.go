package eventlog

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/egresswarden/egresswarden/schemas"
)

// TestARemovedStoreIsNoticed holds that the server does not go on writing to
// files that nobody finds again, and that clients have their streams back.
func TestARemovedStoreIsNoticed(t *testing.T) {
	for name, remove := range map[string]func(dir string) error{
		"all of it": os.RemoveAll,
		"a stream": func(dir string) error {
			return os.RemoveAll(filepath.Join(dir, "jetstream", "$G", "streams", schemas.StreamPolicy))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			l := connect(t, s.Options())
			ctx := testContext(t)
			if _, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_BLOCK), 0); err != nil {
				t.Fatal(err)
			}
			before, err := l.PolicyEnd(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := remove(s.options.Dir); err != nil {
				t.Fatal(err)
			}
			for wait := retryMin; ; {
				end, err := l.PolicyEnd(ctx)
				if err == nil && !end.Made.Equal(before.Made) && end.Last == 0 {
					break
				}
				if err := pause(ctx, &wait); err != nil {
					t.Fatalf("the log is not another and empty: %+v", end)
				}
			}
			if _, err := l.AppendPolicy(ctx, modeSet("p", schemas.Mode_MODE_LEARN), 0); err != nil {
				t.Fatal(err)
			}
			l.Close()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again := startServer(t, func(o *ServerOptions) { o.Dir = s.options.Dir })
			if end, err := connect(t, again.Options()).PolicyEnd(ctx); err != nil || end.Last != 1 {
				t.Errorf("what was appended afterwards is not stored: %+v, %v", end, err)
			}
		})
	}
}

func TestADeletedStreamIsMadeAgain(t *testing.T) {
	s := startServer(t)
	l := connect(t, s.Options())
	ctx := testContext(t)
	if err := l.js.DeleteStream(ctx, schemas.StreamHosts); err != nil {
		t.Fatal(err)
	}
	if err := l.MakeStreams(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.PublishHost(ctx, &schemas.HostEvent{Host: "h"}); err != nil {
		t.Error(err)
	}
}
