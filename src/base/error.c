// SPDX-License-Identifier: Apache-2.0
//
// Errors carry their class in GError's code. A foreign domain (GRegex, GOption, …) reads as UNKNOWN: only code that
// knows what such an error means may give it a class.
#include "base/error.h"

#include <stdarg.h>
#include <stdatomic.h>

// GLib's macro for this writes a plain variable from whatever thread comes first.
GQuark error_quark(void)
{
        static atomic_uint quark;
        if (atomic_load_explicit(&quark, memory_order_relaxed) == 0)
                atomic_store_explicit(&quark, g_quark_from_static_string("skiff"), memory_order_relaxed);
        return atomic_load_explicit(&quark, memory_order_relaxed);
}

bool error_fail(GError **error, enum error_code code, const char *format, ...)
{
        if (error == NULL)
                return false;
        va_list args;
        va_start(args, format);
        g_assert(*error == NULL);
        *error = g_error_new_valist(SKIFF_ERROR, code, format, args);
        va_end(args);
        return false;
}

bool error_fail_errno(GError **error, int errnum, const char *format, ...)
{
        if (error == NULL)
                return false;
        va_list args;
        va_start(args, format);
        g_autofree char *what = g_strdup_vprintf(format, args);
        va_end(args);
        g_assert(*error == NULL);
        *error = g_error_new(SKIFF_ERROR, ERROR_UNKNOWN, "%s: %s", what, errno_text(errnum));
        return false;
}

const char *errno_text(int errnum)
{
        g_autofree char *text = g_ascii_strdown(g_strerror(errnum), -1);
        return g_intern_string(text);
}

enum error_code error_class(const GError *error)
{
        return error->domain == SKIFF_ERROR ? (enum error_code)error->code : ERROR_UNKNOWN;
}

bool error_is(const GError *error, enum error_code code)
{
        return error != NULL && error_class(error) == code;
}

const char *error_class_text(enum error_code code)
{
        switch (code) {
        case ERROR_CANCELED:
                return "context canceled";
        case ERROR_UNKNOWN:
                return "unknown";
        case ERROR_INVALID_ARGUMENT:
                return "invalid argument";
        case ERROR_DEADLINE_EXCEEDED:
                return "context deadline exceeded";
        case ERROR_NOT_FOUND:
                return "not found";
        case ERROR_ALREADY_EXISTS:
                return "already exists";
        case ERROR_PERMISSION_DENIED:
                return "permission denied";
        case ERROR_RESOURCE_EXHAUSTED:
                return "resource exhausted";
        case ERROR_FAILED_PRECONDITION:
                return "failed precondition";
        case ERROR_ABORTED:
                return "aborted";
        case ERROR_OUT_OF_RANGE:
                return "out of range";
        case ERROR_UNIMPLEMENTED:
                return "not implemented";
        case ERROR_INTERNAL:
                return "internal";
        case ERROR_UNAVAILABLE:
                return "unavailable";
        case ERROR_DATA_LOSS:
                return "data loss";
        case ERROR_UNAUTHENTICATED:
                return "unauthenticated";
        }
        return "unknown";
}
