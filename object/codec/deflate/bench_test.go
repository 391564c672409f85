package deflate_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/klauspost/compress/zlib"

	"github.com/rootstock-cf/rootstock/object/codec/deflate"
)

// BenchmarkAppend compares this package with the C library's code transpiled,
// and with an encoder of the same format that is free to choose.
func BenchmarkAppend(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	inputs := []struct {
		name string
		src  []byte
	}{
		{"binary", some(b, "/usr/lib/x86_64-linux-gnu/libc.so.6", self)},
		{"go-binary", some(b, self)},
		{"text", text(70, 4<<20)},
		{"noise", noise(70, 4<<20)},
		{"zeros", make([]byte, 4<<20)},
		{"small", text(71, 2000)},
	}
	for _, in := range inputs {
		run := func(name string, encode func(dst []byte) ([]byte, error)) {
			b.Run(in.name+"/"+name, func(b *testing.B) {
				b.SetBytes(int64(len(in.src)))
				b.ReportAllocs()
				var dst []byte
				for b.Loop() {
					var err error
					if dst, err = encode(dst[:0]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
		run("deflate", func(dst []byte) ([]byte, error) { return deflate.Append(dst, in.src), nil })
		run("modernc", func([]byte) ([]byte, error) { return transpiled(in.src) })
		var buf bytes.Buffer
		w := zlib.NewWriter(&buf)
		run("klauspost", func(dst []byte) ([]byte, error) {
			buf.Reset()
			w.Reset(&buf)
			if _, err := w.Write(in.src); err != nil {
				return nil, err
			}
			return dst, w.Close()
		})
	}
}

// some returns up to 4 MiB of the first of paths that can be read.
func some(b *testing.B, paths ...string) []byte {
	b.Helper()
	for _, path := range paths {
		if content, err := readSome(path, 4<<20); err == nil {
			return content
		}
	}
	b.Fatalf("cannot read any of %v", paths)
	return nil
}
