/* A stand-in for libnvidia-ml.so.1. It reads the file that FAKE_NVML names at each call, lines of
   "KEY NUMBER", so that a test can change what the "driver" says while others use it:

     INIT, COUNT     status of these calls            N          number of GPUs (default 2)
     HANDLE<i>       status of GPU i's handle         MEMORY<i>  status of its memory call
     HANG<i>         seconds its UUID call takes      CRASH<i>   1: its UUID call crashes
     HANGINIT        seconds that init takes          BADNAME    1: names are not UTF-8
     MIG<i>          number of MIG instances of GPU i, which is then in MIG mode
     REMAP<i>        1: its memory rows could not be remapped
     NOISE           1: the library prints lines of its own
*/
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int value(const char *key, int otherwise) {
    char name[64];
    int number;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (!file) return otherwise;
    while (fscanf(file, "%63s %d", name, &number) == 2)
        if (!strcmp(name, key)) { fclose(file); return number; }
    fclose(file);
    return otherwise;
}

static int of(const char *key, long gpu, int otherwise) {
    char name[64];
    snprintf(name, sizeof name, "%s%ld", key, gpu);
    return value(name, otherwise);
}

/* A GPU's handle is index + 1; that of an instance 1000 * (index + 1) + place. */
static long gpu_of(void *handle) { long h = (long)handle; return (h >= 1000 ? h / 1000 : h) - 1; }
static int is_instance(void *handle) { return (long)handle >= 1000; }

int nvmlInitWithFlags(unsigned flags) {
    if (value("NOISE", 0)) { printf("a library may say anything\n{\"hello\": 1}\n"); fflush(stdout); }
    sleep(value("HANGINIT", 0));
    return value("INIT", 0);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = value("N", 2); return value("COUNT", 0); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return of("HANDLE", index, 0);
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    long gpu = gpu_of(handle);
    if (is_instance(handle)) {
        snprintf(text, size, "MIG-0000000%ld-0000-5000-8000-00000000%04ld", gpu, (long)handle % 1000);
        return 0;
    }
    sleep(of("HANG", gpu, 0));
    if (of("CRASH", gpu, 0)) raise(SIGSEGV);
    snprintf(text, size, "GPU-0000000%ld-aaaa-bbbb-cccc-dddddddddddd", gpu);
    return 0;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) {
    if (value("BADNAME", 0)) { snprintf(text, size, "Fake \xff\xfe GPU"); return 0; }
    snprintf(text, size, is_instance(handle) ? "Fake GPU MIG 1g.5gb" : "Fake GPU");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    memory[0] = (is_instance(handle) ? 1ULL : 8ULL) << 30;
    memory[1] = memory[2] = memory[0] / 2;
    return of("MEMORY", gpu_of(handle), 0);
}
int nvmlDeviceGetPciInfo_v3(void *handle, char *info) {
    memset(info, 0, 68);
    snprintf(info + 36, 32, "00000000:%02lX:00.0", 0xc0 + gpu_of(handle));
    return 0;
}
int nvmlDeviceGetRemappedRows(void *handle, unsigned *a, unsigned *b, unsigned *c, unsigned *failed) {
    *a = *b = *c = 0;
    *failed = of("REMAP", gpu_of(handle), 0);
    return 0;
}
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    *current = *pending = of("MIG", gpu_of(handle), -1) >= 0;
    return of("MIG", gpu_of(handle), -1) >= 0 ? 0 : 3;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **instance) {
    if ((int)place >= of("MIG", gpu_of(handle), -1)) return 6;
    *instance = (void *)(1000 * (long)handle + place);
    return 0;
}
