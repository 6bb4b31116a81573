# SPDX-License-Identifier: Apache-2.0
"""What the lints share: which files there are, C without comments and strings, how findings are printed."""
import os
import re
import sys

SKIPPED = 77  # exit status that Meson shows as skipped
C_SUFFIXES = ('.c', '.h', '.cc')
C_FOLDERS = ('src', 'include', 'proto', 'tests')
IGNORED_FOLDERS = re.compile(r'^(\..*|build.*|corpus|__pycache__|subprojects)$')


def root_from_arguments(usage):
    """The tree to look at: the argument, or the one this file is in."""
    if len(sys.argv) > 2 or any(a.startswith('-') for a in sys.argv[1:]):
        sys.exit(usage)
    if len(sys.argv) == 2:
        return sys.argv[1]
    return os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def all_files(root, folders=('',)):
    """Paths relative to root, sorted."""
    found = []
    for folder in folders:
        for directory, names, files in os.walk(os.path.join(root, folder)):
            names[:] = [n for n in names if not IGNORED_FOLDERS.match(n)]
            found += [os.path.relpath(os.path.join(directory, f), root) for f in files]
    return sorted(found)


def c_files(root):
    return [f for f in all_files(root, C_FOLDERS) if f.endswith(C_SUFFIXES)]


def read(root, path):
    with open(os.path.join(root, path), encoding='utf-8', errors='replace') as file:
        return file.read()


def without_comments_and_strings(text):
    """The same lines and columns, with spaces for what the compiler does not take as code."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, lambda m: re.sub(r'[^\n]', ' ', m.group()), text, flags=re.DOTALL)


def finish(findings, what):
    """Print findings, one a line, and end the lint."""
    for finding in findings:
        print(finding)
    if findings:
        print('%d %s' % (len(findings), what))
    sys.exit(1 if findings else 0)
