package cell

import (
	"context"
	"os"
	"time"
)

// Status is the document of `rootstock-cell status --json` (docs/cli.md).
type Status struct {
	WorkerPID    int                `json:"worker_pid"`
	WorkerSince  time.Time          `json:"worker_since"` // when it was started, or executed anew
	WorkerBinary string             `json:"worker_binary"`
	HolderPID    int                `json:"holder_pid,omitempty"`
	Tier         string             `json:"tier"`        // image or tree
	TierReason   string             `json:"tier_reason"` // why that one
	IDMapping    string             `json:"id_mapping"`  // kernel or daemon
	MappingWhy   string             `json:"id_mapping_reason"`
	Images       *ImageStatus       `json:"images,omitempty"`
	Repositories []RepositoryStatus `json:"repositories"`
	Cache        CacheStatus        `json:"cache"`
	Exposure     *Exposure          `json:"exposure,omitempty"` // of the image tier
	Draining     bool               `json:"draining"`
	// Failed are the repositories that are not mounted, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// RepositoryStatus is one repository of a cell. Counts are since the mount.
type RepositoryStatus struct {
	Name           string     `json:"name"`
	Revision       uint64     `json:"revision"`
	RootHash       string     `json:"root_hash"`
	Mountpoint     string     `json:"mountpoint"`
	Published      *time.Time `json:"published,omitempty"`
	WhitelistEnd   *time.Time `json:"whitelist_end,omitempty"`
	Offline        bool       `json:"offline"`
	Fixed          bool       `json:"fixed"`               // by tag, date or root hash
	Withdrawn      bool       `json:"withdrawn"`           // the blacklist names what is shown
	Untrusted      string     `json:"untrusted,omitempty"` // why no new container gets a tree
	Catalogs       int        `json:"catalogs"`
	Containers     int        `json:"containers"`
	FetchedObjects int64      `json:"fetched_objects"` // requests that brought something
	FetchedBytes   int64      `json:"fetched_bytes"`
	FetchFailures  int64      `json:"fetch_failures"`
	Rejected       int64      `json:"rejected"` // manifests that did not verify
	IOErrors       int64      `json:"io_errors"`
	Requests       uint64     `json:"fuse_requests"`
	IDMappings     int        `json:"id_mappings"` // for which it is mounted once more
}

// ImageStatus is the image tier. Counts are since the daemon started.
type ImageStatus struct {
	Trees    int    `json:"trees"`         // held by containers
	Requests uint64 `json:"fuse_requests"` // for contents that were not cached
	Failures uint64 `json:"failures"`      // of them, answered with an I/O error
}

// Exposure is what containers would miss if the daemon were gone.
type Exposure struct {
	Bytes int64 `json:"bytes"` // of trees in use, not in the cache
	Bound int   `json:"bound"` // contents opened through the objects mount: at most that many files depend on it
	// Trees are the bytes of each, by its id.
	Trees map[string]int64 `json:"trees,omitempty"`
}

// exposureTime bounds what a status waits for trees to be counted.
const exposureTime = 2 * time.Second

// exposure is nil without an image tier, or if it is not known in time.
func (c *Cell) exposure(ctx context.Context) *Exposure {
	if c.images == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, exposureTime)
	defer cancel()
	e, err := c.images.Exposure(ctx)
	if err != nil {
		return nil
	}
	x := &Exposure{Bytes: e.Bytes, Bound: e.Bound, Trees: map[string]int64{}}
	for id, n := range e.Trees {
		x.Trees[id.String()] = n
	}
	return x
}

// CacheStatus is the cell's cache. Sizes are bytes.
type CacheStatus struct {
	Directory string `json:"directory"`
	Quota     int64  `json:"quota"` // 0 for none
	Bytes     int64  `json:"bytes"`
	Pinned    int64  `json:"pinned"`
	Contents  int    `json:"contents"`
	Hits      int64  `json:"hits"`
	Misses    int64  `json:"misses"`
	Evictions int64  `json:"evictions"`
	Discarded int64  `json:"discarded"` // found damaged and removed
	Refused   int64  `json:"refused"`   // not stored for want of room or by disk errors
	Scrubbed  int64  `json:"scrubbed"`  // bytes read by scrubs
}

// Status implements control.Reporter.
func (c *Cell) Status(ctx context.Context) (any, error) {
	s := c.cache.Stats()
	doc := Status{
		WorkerPID:    os.Getpid(),
		WorkerSince:  c.since,
		WorkerBinary: c.binary,
		HolderPID:    c.holderPID(),
		Tier:         c.tier(),
		TierReason:   c.tierWhy,
		Images:       c.imageStatus(),
		Exposure:     c.exposure(ctx),
		Draining:     c.draining.Load(),
		Repositories: []RepositoryStatus{},
		Cache: CacheStatus{
			Directory: c.o.CacheDir, Quota: s.Quota, Bytes: s.Bytes, Pinned: s.Pinned, Contents: s.Contents,
			Hits: s.Hits, Misses: s.Misses, Evictions: s.Evictions, Discarded: s.Discarded, Refused: s.Refused,
			Scrubbed: s.Scrubbed,
		},
	}
	doc.IDMapping, doc.MappingWhy = c.ids.get()
	for _, m := range c.mounted() {
		doc.Repositories = append(doc.Repositories, m.status())
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	for name, err := range c.failed {
		if doc.Failed == nil {
			doc.Failed = map[string]string{}
		}
		doc.Failed[name] = err.Error()
	}
	return doc, nil
}

func (m *mounted) status() RepositoryStatus {
	r, n := m.repo.Status(), m.stack.Network().Totals
	mappings, _ := m.shifted.Stats()
	untrusted := ""
	if err := m.repo.Trusted(); err != nil {
		untrusted = err.Error()
	}
	return RepositoryStatus{
		Name: r.Name, Revision: r.Revision, RootHash: r.RootHash.String(), Mountpoint: m.conn.Mountpoint(),
		Published: known(r.Published), WhitelistEnd: known(r.WhitelistEnd), Offline: r.Offline, Fixed: r.Fixed,
		Withdrawn: r.Withdrawn, Untrusted: untrusted,
		Catalogs: r.Catalogs, Containers: len(m.pins.list()),
		FetchedObjects: n.Requests - n.Failures, FetchedBytes: n.Bytes, FetchFailures: n.Failures,
		Rejected: r.Rejected, IOErrors: r.IOErrors, Requests: m.requests().Requests, IDMappings: mappings,
	}
}

// known is nil for a time that is not.
func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
