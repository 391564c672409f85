package catalog

import (
	"fmt"

	"github.com/rootstock-cf/rootstock/catalog/internal/sqlfile"
)

// migrate brings a catalog of schema 2.5 to the newest revision (CVMFS-FORMAT
// 2.1). Columns that are added come last, unlike in a new catalog.
func migrate(db *sqlfile.DB) error {
	props, err := db.Properties()
	if err != nil {
		return err
	}
	v, err := db.VersionOf(props)
	if err != nil {
		return err
	}
	if !v.Is(schemaNumber) {
		return fmt.Errorf("%w: %s: schema %g cannot be written; migrate the repository with the CernVM-FS server tools first", ErrInvalid, db.Path(), v.Schema)
	}
	if v.Revision >= schemaRevision {
		return nil
	}
	old, err := layoutOf(db, props)
	if err != nil {
		return err
	}
	_, subtree, err := readCounters(db, &old)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		revision int
		sql      string
	}{
		{1, "ALTER TABLE nested_catalogs ADD size INTEGER"},
		{2, "ALTER TABLE catalog ADD xattr BLOB"},
		{4, ddlBinds},
		{5, "UPDATE catalog SET flags = flags | 16 WHERE flags & 13 = 4 AND mode & 61440 <> 32768"},
		{7, "ALTER TABLE catalog ADD mtimens INTEGER"},
	} {
		if v.Revision >= step.revision {
			continue
		}
		if err := db.Exec(step.sql); err != nil {
			return fmt.Errorf("migrate to revision %d: %w", step.revision, err)
		}
	}
	if err := db.SetVersion(schema, schemaRevision); err != nil {
		return err
	}
	self, err := recount(db)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return writeCounters(db, self, subtree)
}

// recount computes the self counters from the rows: those that a step adds
// would otherwise not match what is there.
func recount(db *sqlfile.DB) (Counters, error) {
	var c Counters
	into := c.fields()
	err := db.Query(`SELECT
		sum(mode & 61440 = 32768), sum(mode & 61440 = 40960),
		sum(mode & 61440 NOT IN (32768, 40960, 16384)), sum(mode & 61440 = 16384),
		(SELECT count(*) FROM nested_catalogs),
		sum(flags & 64 <> 0), (SELECT count(*) FROM chunks),
		sum(iif(mode & 61440 = 32768, size, 0)), sum(iif(flags & 64, size, 0)),
		sum(xattr IS NOT NULL),
		sum(flags & 128 <> 0), sum(iif(flags & 128, size, 0))
		FROM catalog`, nil, func(r *sqlfile.Rows) error {
		for i := range into {
			*into[i] = r.IntOr(i, 0)
		}
		return nil
	})
	return c, err
}
