// SPDX-License-Identifier: Apache-2.0
//
// Lists of words in one text. Threads: any.
#pragma once

// The words of both texts, parted by separator: sorted, each once, empty ones left out. more may be NULL. Caller frees.
char *words_merge(const char *separator, const char *words, const char *more);
