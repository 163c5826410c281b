package enforcer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"

	"github.com/egresswarden/egresswarden/policy"
)

// rulesSuffix marks the allow-lists in the folder of policies.
const rulesSuffix = ".rules"

// maxRulesFile bounds an allow-list, in bytes: a million lines.
const maxRulesFile = 64 << 20

// ruleFile is one allow-list of the folder: the policy is named by the path
// below the folder, shop/api.rules for shop/api. Characters that a file name
// cannot hold are percent-encoded; %2A.rules is the policy of everyone.
type ruleFile struct {
	Policy string
	Path   string
	SHA256 string
	Rules  []policy.Rule
	Err    error

	// last is the policy's last event in the log that the file was compared
	// with.
	last uint64
}

// readFolder reads every allow-list. A file that is wrong is in the result
// with its error; a folder that cannot be read is an error of the whole.
func readFolder(dir string) ([]ruleFile, error) {
	var files []ruleFile
	err := walkFolder(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, rulesSuffix) {
			return nil
		}
		files = append(files, readRuleFile(dir, path))
		return nil
	})
	markDoubles(files)
	if errors.Is(err, fs.ErrNotExist) && len(files) == 0 {
		if _, statErr := os.Stat(dir); errors.Is(statErr, fs.ErrNotExist) {
			return nil, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return files, nil
}

// walkFolder walks below a folder or a link to one. Anything else in its place
// is an error: it would be a walk over nothing, which removes every policy.
func walkFolder(dir string, fn fs.WalkDirFunc) error {
	return filepath.WalkDir(filepath.Clean(dir)+string(filepath.Separator), fn)
}

// markDoubles makes a second file for one policy an error: *.rules and
// %2A.rules are both of everyone.
func markDoubles(files []ruleFile) {
	first := map[string]string{}
	for i, f := range files {
		if f.Policy == "" {
			continue
		}
		if other, ok := first[f.Policy]; ok {
			files[i].Err = fmt.Errorf("%s: the policy %s has the file %s already", f.Path, f.Policy, other)
			continue
		}
		first[f.Policy] = f.Path
	}
}

func readRuleFile(dir, path string) ruleFile {
	f := ruleFile{Path: path}
	if f.Policy, f.Err = policyOfPath(dir, path); f.Err != nil {
		return f
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxRulesFile {
		err = fmt.Errorf("%s: %d bytes, at most %d are taken", path, info.Size(), maxRulesFile)
	}
	if err != nil {
		f.Err = err
		return f
	}
	text, err := os.ReadFile(path)
	if err != nil {
		f.Err = err
		return f
	}
	sum := sha256.Sum256(text)
	f.SHA256 = hex.EncodeToString(sum[:])
	f.Rules, f.Err = policy.ParseFile(path, text)
	return f
}

func policyOfPath(dir, path string) (string, error) {
	rel, err := filepath.Rel(dir, path)
	if err != nil {
		return "", err
	}
	name, err := url.PathUnescape(strings.TrimSuffix(filepath.ToSlash(rel), rulesSuffix))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if name == policy.Everyone {
		return name, nil
	}
	if err := checkWorkload(name); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return name, nil
}

// watchFolders asks the kernel to tell of changes in the folder and below. One
// that cannot be watched is read from time to time all the same.
func watchFolders(notify *fsnotify.Watcher, dir string) {
	watched := notify.WatchList()
	_ = walkFolder(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && !slices.Contains(watched, filepath.Clean(path)) {
			_ = notify.Add(filepath.Clean(path))
		}
		return nil
	})
}
