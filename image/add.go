package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A Manifest is what an image's manifest says, with or without a registry.
type Manifest struct {
	Digest string // of the manifest; "" if there is none
	Layers []Blob // lowest first; as many as the configuration has diff_ids
}

// An Adding is an image on its way into the store. It holds the store's
// layers, so that none is removed under it. Close ends it.
type Adding struct {
	s      *Store
	img    *Image
	layers []*incoming
	rights *rights
	hold   *os.File
}

// incoming is one layer of an Adding; ready is closed when err and tree are final.
type incoming struct {
	rec   layerRecord
	dir   string // below the root, once ready
	have  bool
	tree  tree
	err   error
	ready chan struct{}
	once  sync.Once
}

// Add starts to take in the image with this configuration. Nothing can be seen of it before Commit.
func (s *Store) Add(config []byte, m Manifest) (*Adding, error) {
	img, diffs, err := parseConfig(config)
	if err != nil {
		return nil, err
	}
	if len(m.Layers) != len(diffs) {
		return nil, fmt.Errorf("image %s: manifest has %d layers, configuration has %d diff_ids", shortDigest(img.ID), len(m.Layers), len(diffs))
	}
	img.Manifest = m.Digest
	a := &Adding{s: s, img: img}
	if a.rights, err = findRights(); err != nil {
		return nil, err
	}
	if a.hold, err = s.lock("layers", unix.LOCK_SH); err != nil {
		return nil, err
	}
	s.sweepLayers()
	chains := chainIDs(diffs)
	for i, d := range diffs {
		l := &incoming{rec: layerRecord{chain: chains[i], diff: d, blob: m.Layers[i]}, ready: make(chan struct{}), tree: tree{fd: -1}}
		a.layers = append(a.layers, l)
		if err := a.admit(l); err != nil {
			return nil, errors.Join(fmt.Errorf("layer %d of %d (%s): %w", i+1, len(diffs), shortDigest(d), err), a.Close())
		}
	}
	return a, nil
}

// admit checks a layer's descriptor, and takes the layer from the store if it is there.
func (a *Adding) admit(l *incoming) error {
	b := l.rec.blob
	if err := checkMediaType(b.MediaType); err != nil {
		return err
	}
	if b.Digest != "" {
		if err := CheckDigest(b.Digest); err != nil {
			return err
		}
		if b.Size < 0 {
			return fmt.Errorf("size %d in its descriptor", b.Size)
		}
	}
	id, rec, err := a.s.findLayer(l.rec.chain)
	if err != nil || rec == nil {
		return err
	}
	l.have = true
	return a.open(l, id, rec)
}

// open makes a finished layer known to those above it.
func (a *Adding) open(l *incoming, id string, rec *layerRecord) error {
	l.dir = "layers/" + id + "/fs"
	l.rec = *rec
	fd, err := unix.Open(a.s.root+"/"+l.dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == nil {
		l.tree = tree{fd: fd, opaque: rec.opaque}
	}
	l.finish(err)
	return err
}

func (l *incoming) finish(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.ready)
	})
}

// Image is the image that is being added: its ID and configuration, and no names.
func (a *Adding) Image() *Image { return a.img }

// Has tells whether layer i need not be fetched.
func (a *Adding) Has(i int) bool { return a.layers[i].have }

// Fetch unpacks the layers that are missing, up to parallel at a time (0: one
// per core), with open giving each one's blob. A layer is unpacked while those
// below it are still on their way; only when it needs to look at them does it wait.
func (a *Adding) Fetch(ctx context.Context, parallel int, open func(ctx context.Context, i int) (io.ReadCloser, error)) error {
	if parallel <= 0 {
		parallel = runtime.GOMAXPROCS(0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for i, l := range a.layers {
		if l.have {
			continue
		}
		slots <- struct{}{} // in order, so that the lowest missing layer always has a slot
		if ctx.Err() != nil {
			<-slots
			l.finish(context.Cause(ctx))
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			err := a.fetchOne(ctx, i, open)
			if err != nil {
				err = fmt.Errorf("layer %d of %d (%s): %w", i+1, len(a.layers), shortDigest(a.layers[i].rec.diff), err)
				cancel(err)
			}
			l.finish(err)
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (a *Adding) fetchOne(ctx context.Context, i int, open func(context.Context, int) (io.ReadCloser, error)) error {
	l := a.layers[i]
	r, err := open(ctx, i)
	if err != nil {
		return err
	}
	defer r.Close()
	var below func() (trees, error)
	if i > 0 {
		below = func() (trees, error) { return a.below(ctx, i) }
	}
	if err := a.s.unpackLayer(ctx, &l.rec, r, a.rights, below); err != nil {
		return err
	}
	id, rec, err := a.s.findLayer(l.rec.chain)
	if err != nil {
		return err
	}
	if rec == nil {
		return fmt.Errorf("layer %s disappeared", l.rec.chain)
	}
	return a.open(l, id, rec)
}

// below waits for all layers under i.
func (a *Adding) below(ctx context.Context, i int) (trees, error) {
	ts := make(trees, 0, i)
	for k := i - 1; k >= 0; k-- {
		select {
		case <-a.layers[k].ready:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if err := a.layers[k].err; err != nil {
			return nil, err
		}
		ts = append(ts, a.layers[k].tree)
	}
	return ts, nil
}

// Commit makes the image visible, under these names; they may be REPO@DIGEST
// too. An image that had one of them loses it.
func (a *Adding) Commit(names ...string) (*Image, error) {
	refs := make([]string, len(names))
	for i, n := range names {
		r, err := Parse(n)
		if err != nil {
			return nil, err
		}
		refs[i] = r.String()
	}
	img := *a.img
	for _, l := range a.layers {
		select {
		case <-l.ready:
		default:
			return nil, fmt.Errorf("commit image %s: layer %s is missing", shortDigest(img.ID), shortDigest(l.rec.diff))
		}
		if l.err != nil {
			return nil, l.err
		}
		img.Layers = append(img.Layers, Layer{DiffID: l.rec.diff, Dir: l.dir})
		img.Size += l.rec.size
	}
	err := a.s.editNames(func(n *nameIndex) error {
		if err := a.s.writeFile(img.ID[len("sha256:"):], encodeRecord(&img)); err != nil {
			return err
		}
		for _, r := range refs {
			n.set(r, img.ID)
		}
		img.Names, img.Digests = n.of(img.ID)
		return nil
	})
	return &img, err
}

// Close gives up the hold on the store. Layers that came stay, for another try, until Prune.
func (a *Adding) Close() error {
	for _, l := range a.layers {
		if l.tree.fd >= 0 {
			unix.Close(l.tree.fd)
		}
	}
	err := a.hold.Close()
	a.s.collectLater()
	return err
}
