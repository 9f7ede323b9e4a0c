package spool

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kpush/kpush/volume"
)

// disk is the directory as this package uses it. Names are TOPIC/FILE, or FILE.
type disk interface {
	List() ([]string, error)
	Create(name string, content []byte) error // whole and with its name on the disk, instead of one that there is; or as it was
	Open(name string) (volume.File, error)
	Remove(name string) error              // it may come back with a power cut
	Append(name string, line []byte) error // on the disk, or not there
}

// dir is a real one.
type dir string

func (d dir) path(name string) string { return filepath.Join(string(d), filepath.FromSlash(name)) }

// List is empty where there is no directory.
func (d dir) List() (names []string, err error) {
	err = filepath.WalkDir(string(d), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(string(d), path)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return names, err
}

func (d dir) Create(name string, content []byte) error {
	folder := filepath.Dir(d.path(name))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, above := range []string{string(d), filepath.Dir(string(d))} { // they may be as new as the file
		if err := volume.SyncDir(above); err != nil {
			return err
		}
	}
	return volume.Create(d.path(name), func(f volume.File) error {
		_, err := f.WriteAt(content, 0)
		if err == nil {
			err = f.Sync()
		}
		return err
	})
}

func (d dir) Open(name string) (volume.File, error) { return volume.Open(d.path(name)) }

func (d dir) Remove(name string) error { return os.Remove(d.path(name)) }

func (d dir) Append(name string, line []byte) error { return volume.AppendLine(d.path(name), line) }
