/* Enters the kernel by the 32-bit gate: write(1, "entered", 7). The text lies below 4 GiB. */
#include <string.h>
#include <sys/mman.h>

int main(void) {
    char *low = mmap((void *)0x10000000, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (low == MAP_FAILED)
        return 2;
    memcpy(low, "entered", 7);
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(4), "b"(1), "c"(low), "d"(7) : "memory");
    return result == 7 ? 0 : 1;
}
