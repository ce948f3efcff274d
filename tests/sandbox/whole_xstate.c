/* For user_mode.py: lets User-mode Linux keep the registers of its processes on any processor.
 *
 * Linux takes all of a process's extended state or nothing (xstateregs_set in arch/x86/kernel/fpu/regset.c), and Linux
 * 6.1 as a user-mode one has no room for more than AVX-512 takes: with AMX, none of its processes starts. What it has
 * no room for is added here as the process has it: nobody uses AMX who hasn't asked for it (ARCH_REQ_XCOMP_PERM).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/uio.h>

long ptrace(enum __ptrace_request request, ...)
{
    static long (*real)(enum __ptrace_request, ...);
    static char whole[1 << 16];
    va_list arguments;

    va_start(arguments, request);
    pid_t pid = va_arg(arguments, pid_t);
    void *address = va_arg(arguments, void *);
    void *data = va_arg(arguments, void *);
    va_end(arguments);
    if (!real)
        real = dlsym(RTLD_NEXT, "ptrace");
    if (request != PTRACE_SETREGSET || address != (void *)NT_X86_XSTATE)
        return real(request, pid, address, data);
    struct iovec *part = data, all = {whole, sizeof whole};
    if (real(PTRACE_GETREGSET, pid, address, &all) < 0)
        return -1;
    memcpy(whole, part->iov_base, part->iov_len < all.iov_len ? part->iov_len : all.iov_len);
    return real(request, pid, address, &all);
}
