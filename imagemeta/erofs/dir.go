package erofs

// name is one name in a directory.
type name struct {
	text  string
	inode int32
}

var dots = [2]string{".", ".."}

// names calls yield for each name in the directory, with the two dots where
// they belong in bytewise order: a few characters come before.
func (l *layout) names(n *inode, yield func(name)) {
	dot := 0
	target := [2]int32{l.inode[n.entry], n.parent}
	for i := n.entry + 1; i < l.next[n.entry]; i = l.next[i] {
		text := l.entries[i].Name()
		for dot < 2 && dots[dot] < text {
			yield(name{dots[dot], target[dot]})
			dot++
		}
		yield(name{text, l.inode[i]})
	}
	for ; dot < 2; dot++ {
		yield(name{dots[dot], target[dot]})
	}
}

// measure returns how many blocks the directory's names take, and how many
// bytes of the last one. A name is never split.
func (l *layout) measure(n *inode) (blocks uint32, last int) {
	blocks = 1
	l.names(n, func(x name) {
		size := direntSize + len(x.text)
		if last+size > blockSize {
			blocks++
			last = 0
		}
		last += size
	})
	return blocks, last
}

// directory calls yield for each block of the directory with the names in it,
// which are valid during the call. scratch is used for them and returned.
func (l *layout) directory(n *inode, scratch []name, yield func(block uint32, names []name)) []name {
	names, size, block := scratch[:0], 0, uint32(0)
	l.names(n, func(x name) {
		if size+direntSize+len(x.text) > blockSize {
			yield(block, names)
			names, size = names[:0], 0
			block++
		}
		names = append(names, x)
		size += direntSize + len(x.text)
	})
	yield(block, names)
	return names
}

// appendNames appends a block of a directory: its entries, then their names.
func (l *layout) appendNames(b []byte, names []name) []byte {
	at := len(names) * direntSize
	for _, x := range names {
		n := &l.inodes[x.inode]
		b = le.AppendUint64(b, n.number())
		b = le.AppendUint16(b, uint16(at)) // #nosec G115 -- within a block
		b = append(b, fileTypes[l.entries[n.entry].Mode>>12], 0)
		at += len(x.text)
	}
	for _, x := range names {
		b = append(b, x.text...)
	}
	return b
}
