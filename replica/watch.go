package replica

import (
	"context"
	"errors"
	"time"

	"github.com/rootstock-cf/rootstock/client/fetch"
	"github.com/rootstock-cf/rootstock/manifest"
)

// maxPause bounds the time between two tries while the source fails.
const maxPause = time.Minute

// Watch follows the source until ctx ends, and then returns nil. It asks for
// the manifest and the whitelist each interval, on condition that they have
// changed, and copies what is new; report is called after each run that did
// something, or failed. After a failure it asks less and less often, up to
// once a minute.
func (r *Replicator) Watch(ctx context.Context, interval time.Duration, report func(*Result, error)) error {
	pause := interval
	for {
		err := r.follow(ctx, report)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // to be told to stop is no failure
		}
		if err != nil {
			report(nil, err)
			r.seen = signed{} // whatever it was, do not take it for copied
			pause = min(2*pause, max(maxPause, interval))
		} else {
			pause = interval
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (r *Replicator) follow(ctx context.Context, report func(*Result, error)) error {
	changed, err := r.changed(ctx)
	if err != nil || !changed {
		return err
	}
	res, err := r.Snapshot(ctx)
	if err != nil {
		return err
	}
	if !res.Unchanged {
		report(res, nil)
	}
	return nil
}

// changed asks whether the head is another than the one seen last.
func (r *Replicator) changed(ctx context.Context) (bool, error) {
	for _, f := range []struct {
		name, tag string
		data      []byte
	}{
		{manifest.FileName, r.seen.publishedTag, r.seen.published},
		{manifest.WhitelistName, r.seen.whitelistTag, r.seen.whitelist},
	} {
		if f.data == nil {
			return true, nil
		}
		data, _, err := fetch.ReadAll(ctx, r.o.From, f.name, fetch.Options{MaxAge: pollAge, ETag: f.tag}, maxRootFile)
		if errors.Is(err, fetch.ErrNotModified) {
			continue
		}
		if err != nil {
			return false, err
		}
		if string(data) != string(f.data) {
			return true, nil
		}
	}
	return false, nil
}
