package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"github.com/rootstock-cf/rootstock/object"
	"github.com/rootstock-cf/rootstock/object/codec"
)

var all = []object.Compression{object.Zlib, object.None, object.Zstd}

// samples are inputs whose deflate needs every block type: text, noise, runs
// and lengths around zlib's block and window limits.
func samples() map[string][]byte {
	rng := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 300_000)
	rng.Read(noise) //nolint:errcheck // never fails
	words := strings.Fields("the quick brown fox jumps over a lazy dog and then some more of it 0123456789")
	var text strings.Builder
	r := rand.New(rng)
	for text.Len() < 1<<20 {
		text.WriteString(words[r.IntN(len(words))])
		text.WriteByte(" \n\t,"[r.IntN(4)])
	}
	return map[string][]byte{
		"empty": nil,
		"one":   {0},
		"hello": []byte("hello\n"),
		"run":   bytes.Repeat([]byte{'a'}, 100),
		"zeros": make([]byte, 1<<20),
		"noise": noise,
		"text":  []byte(text.String()),
		"mixed": append([]byte(text.String()[:70_000]), noise[:70_000]...),
	}
}

func TestRoundTrip(t *testing.T) {
	for name, plain := range samples() {
		for _, c := range all {
			stored, err := codec.Encode(c, nil, plain)
			if err != nil {
				t.Fatalf("%s %s: %v", name, c, err)
			}
			for _, size := range []int64{int64(len(plain)), -1} {
				var out bytes.Buffer
				n, err := codec.Decode(&out, bytes.NewReader(stored), codec.Expect{
					Hash: object.SHAKE128.Sum(stored), Compression: c, Size: size, Limit: int64(len(plain)),
				})
				if err != nil || n != int64(len(plain)) || !bytes.Equal(out.Bytes(), plain) {
					t.Errorf("%s %s size %d: %d bytes, %v", name, c, size, n, err)
				}
			}
		}
	}
}

// CVMFS-FORMAT 9.2.
func TestZlibVectors(t *testing.T) {
	for plain, want := range map[string]string{
		"":                       "789c030000000001",
		"hello\n":                "789ccb48cdc9c9e70200084b021f",
		strings.Repeat("a", 100): "789c4b4ca43d00007a4725e5",
	} {
		got, err := codec.Encode(object.Zlib, nil, []byte(plain))
		if err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%q: %x, %v; want %s", plain, got, err, want)
		}
	}
}

// Python's zlib is C zlib: what it writes is what stock CernVM-FS writes.
func TestZlibIsBitIdenticalToC(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3, whose zlib module is C zlib, is not installed: bit identity not compared")
	}
	for name, plain := range samples() {
		cmd := exec.Command(python, "-c", "import sys,zlib;sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read()))")
		cmd.Stdin = bytes.NewReader(plain)
		want, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Encode(object.Zlib, nil, plain)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes differ from C zlib's %d, %v", name, len(got), len(want), err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, size := range []int64{100_000, 3 << 20} { // in memory, and as a stream
		testRefuses(t, bytes.Repeat(samples()["text"], 4)[:size])
	}
}

func testRefuses(t *testing.T, plain []byte) {
	size := int64(len(plain))
	for _, c := range all {
		good, err := codec.Encode(c, nil, plain)
		if err != nil {
			t.Fatal(err)
		}
		flipped := bytes.Clone(good)
		flipped[len(flipped)/2] ^= 1
		second, _ := codec.Encode(c, nil, []byte("more"))
		for name, tc := range map[string]struct {
			stored []byte
			size   int64
			want   error
		}{
			"a missing end":   {good[:len(good)-1], size, nil},
			"a trailing byte": {append(bytes.Clone(good), 0), size, nil},
			"a second stream": {append(bytes.Clone(good), second...), size, nil},
			"too few bytes":   {good, size + 1, codec.ErrSize},
			"too many bytes":  {good, size - 1, codec.ErrSize},
			"nothing":         {nil, size, nil},
		} {
			// The name is that of the bad bytes, so only the codec can object.
			_, err := codec.Decode(io.Discard, bytes.NewReader(tc.stored), codec.Expect{
				Hash: object.SHA1.Sum(tc.stored), Compression: c, Size: tc.size,
			})
			if !errors.Is(err, codec.ErrCorrupt) && !errors.Is(err, codec.ErrSize) {
				t.Errorf("%s with %s: %v", c, name, err)
			}
			if tc.want != nil && !errors.Is(err, tc.want) {
				t.Errorf("%s with %s: %v, want %v", c, name, err, tc.want)
			}
		}
		_, err = codec.Decode(io.Discard, bytes.NewReader(flipped), codec.Expect{Hash: object.SHA1.Sum(good), Compression: c, Size: size})
		if !errors.Is(err, codec.ErrCorrupt) {
			t.Errorf("%s with a flipped bit: %v", c, err)
		}
	}
}

// What the input returned must not be mistaken for corruption: a broken
// connection is retried elsewhere, a corrupt object is not.
func TestDecodeKeepsReadErrors(t *testing.T) {
	broken := errors.New("connection reset")
	for _, c := range all {
		good, _ := codec.Encode(c, nil, samples()["text"])
		src := io.MultiReader(bytes.NewReader(good[:len(good)/2]), &failing{broken})
		_, err := codec.Decode(io.Discard, src, codec.Expect{Hash: object.SHA1.Sum(good), Compression: c, Size: 1 << 20})
		if !errors.Is(err, broken) {
			t.Errorf("%s: %v does not say what the input returned", c, err)
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestBombIsBounded(t *testing.T) {
	for _, c := range []object.Compression{object.Zlib, object.Zstd} {
		bomb, _ := codec.Encode(c, nil, make([]byte, 64<<20))
		n, err := codec.Decode(io.Discard, bytes.NewReader(bomb), codec.Expect{
			Hash: object.SHA1.Sum(bomb), Compression: c, Size: -1, Limit: 1 << 20,
		})
		if !errors.Is(err, codec.ErrSize) || n > 1<<20 {
			t.Errorf("%s: %d bytes, %v", c, n, err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 4 << 20} {
		plain := bytes.Repeat(samples()["text"], 4)[:size]
		for _, c := range all {
			b.Run(fmt.Sprintf("%s/%dk", c, size>>10), func(b *testing.B) {
				stored, _ := codec.Encode(c, nil, plain)
				want := codec.Expect{Hash: object.SHAKE128.Sum(stored), Compression: c, Size: int64(size)}
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := codec.Decode(io.Discard, bytes.NewReader(stored), want); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	plain := samples()["text"]
	for _, c := range all {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			var buf []byte
			for b.Loop() {
				buf, _ = codec.Encode(c, buf[:0], plain)
			}
		})
	}
}
