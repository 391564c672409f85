// Package gdn holds tests with a real Garden server, gdn of
// github.com/cloudfoundry/guardian, that makes its containers through
// rootstock-plugin. They run where the environment variable GDN_BIN names gdn,
// with dadoo, nstar and init beside it (README.md says how to build them);
// nothing of it is part of this project.
package gdn
