package erofs

// MountLoop is what Mount does on kernels before 6.12.
var MountLoop = mountLoop
