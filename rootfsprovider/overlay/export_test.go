package overlay

// Errors of kernels that know fewer ways.
var ErrWay, ErrOneByOne, ErrNoData = errWay, errOneByOne, errNoData

// Ways lets tests mount each way the kernel may have to be asked.
var Ways = map[string]func(Layers, string) error{
	"descriptor": func(l Layers, target string) error { return mountBy(byDescriptor, l, target) },
	"string":     func(l Layers, target string) error { return mountBy(byString, l, target) },
	"mount":      func(l Layers, target string) error { return mountBy(byMount, l, target) },
}
