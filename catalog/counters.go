package catalog

// Counters are the statistics of a catalog or of all catalogs below it
// (CVMFS-FORMAT 2.9). Sizes are in bytes.
type Counters struct {
	Regular, Symlink, Special, Dir int64
	Nested                         int64 // rows of nested_catalogs
	Chunked, Chunks                int64
	FileSize, ChunkedSize          int64
	XAttr                          int64 // rows with any xattr
	External, ExternalFileSize     int64
}

// counterNames are the names in the statistics table behind the prefixes
// self_ and subtree_, with the schema revision each appeared in, in the order
// of [Counters.fields].
var counterNames = [...]struct {
	name  string
	since int
}{
	{"regular", 0},
	{"symlink", 0},
	{"special", 5},
	{"dir", 0},
	{"nested", 0},
	{"chunked", 0},
	{"chunks", 0},
	{"file_size", 0},
	{"chunked_size", 0},
	{"xattr", 2},
	{"external", 3},
	{"external_file_size", 3},
}

func (c *Counters) fields() [len(counterNames)]*int64 {
	return [...]*int64{
		&c.Regular, &c.Symlink, &c.Special, &c.Dir, &c.Nested,
		&c.Chunked, &c.Chunks, &c.FileSize, &c.ChunkedSize,
		&c.XAttr, &c.External, &c.ExternalFileSize,
	}
}

// Of returns what a single row counts. Nested is 0: that counts rows of
// another table.
func Of(e *Entry) Counters {
	var c Counters
	switch {
	case e.IsDir():
		c.Dir = 1
	case e.IsSymlink():
		c.Symlink = 1
	case !e.IsRegular():
		c.Special = 1
	default:
		c.Regular, c.FileSize = 1, e.Size
		if e.Flags&Chunked != 0 {
			c.Chunked, c.ChunkedSize, c.Chunks = 1, e.Size, int64(len(e.Chunks))
		}
		if e.Flags&External != 0 {
			c.External, c.ExternalFileSize = 1, e.Size
		}
	}
	if len(e.XAttrs) > 0 {
		c.XAttr = 1
	}
	return c
}

// Add returns c + o.
func (c Counters) Add(o Counters) Counters {
	of := o.fields()
	for i, p := range c.fields() {
		*p += *of[i]
	}
	return c
}

// Sub returns c - o.
func (c Counters) Sub(o Counters) Counters {
	of := o.fields()
	for i, p := range c.fields() {
		*p -= *of[i]
	}
	return c
}
