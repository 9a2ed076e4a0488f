/* A stand-in for libnvidia-ml.so.1. It reads the file that FAKE_NVML names at each call, lines of
   "KEY NUMBER", so that a test can change what the "driver" says while others use it:

     INIT, COUNT     status of these calls            N          number of GPUs (default 2)
     HANDLE<i>       status of GPU i's handle         MEMORY<i>  status of its memory call
     HANG<i>         seconds its UUID call takes      CRASH<i>   1: its UUID call crashes
     HANGINIT        seconds that init takes          BADNAME    1: names are not UTF-8
     UUID<i>         status of its UUID call          SAME       1: all tell the UUID of GPU 0
     MIG<i>          number of MIG instances of GPU i, which is then in MIG mode
     OLDMIG          1: instances are named as drivers before R470 did
     REMAP<i>        1: its memory rows could not be remapped
     ROWS<i>, PAGES<i>   1: rows wait to be remapped, pages wait to be retired
     ECC<i>          number of its uncorrectable errors; -1: all bits set
     ROWSRC, PAGESRC, ECCRC   status of these calls (default: not supported)
     DRIVERRC, MIGRC     status of the calls for versions and for the MIG mode
     NOISE           1: the library prints lines of its own
     GARBAGE         KiB without a newline that it writes to every open file but the first three
     FLOOD           1: it writes to stdout without an end
     STOP<i>         1: the UUID call of GPU i stops the process
     HELD<i>         1: not even KILL ends the process in the UUID call of GPU i as long as STAYS is 1
*/
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
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

/* As in a driver that does not let go: a traced process is not gone before its tracer says so. */
static void be_held(void) {
    int ready[2];
    char byte;
    if (pipe(ready)) abort();
    pid_t self = getpid();
    if (fork() == 0) {
        setsid();
        for (int file = 0; file < 16; file++)
            if (file != ready[1]) close(file);
        if (ptrace(PTRACE_SEIZE, self, 0, 0)) abort();
        if (write(ready[1], "x", 1) != 1) abort();
        while (value("STAYS", 0)) usleep(10000);
        _exit(0);
    }
    if (read(ready[0], &byte, 1) != 1) abort();
    while (value("STAYS", 0)) usleep(10000);
}

static void write_garbage(int kib) {
    char block[1024];
    memset(block, 'x', sizeof block);
    for (int file = 3; file < 16; file++)
        if ((fcntl(file, F_GETFL) & O_ACCMODE) == O_WRONLY)
            for (int i = 0; i < kib; i++)
                if (write(file, block, sizeof block) < 0) break;
}

int nvmlInitWithFlags(unsigned flags) {
    write_garbage(value("GARBAGE", 0));
    while (value("FLOOD", 0) && write(1, "a library may say anything\n", 27) > 0)
        ;
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
        long place = (long)handle % 1000;
        if (value("OLDMIG", 0))
            snprintf(text, size, "MIG-GPU-0000000%ld-aaaa-bbbb-cccc-dddddddddddd/%ld/0", gpu, place + 7);
        else
            snprintf(text, size, "MIG-0000000%ld-0000-5000-8000-00000000%04ld", gpu, place);
        return 0;
    }
    if (of("HELD", gpu, 0)) be_held();
    if (of("STOP", gpu, 0)) raise(SIGSTOP);
    sleep(of("HANG", gpu, 0));
    if (of("CRASH", gpu, 0)) raise(SIGSEGV);
    snprintf(text, size, "GPU-0000000%ld-aaaa-bbbb-cccc-dddddddddddd", value("SAME", 0) ? 0 : gpu);
    return of("UUID", gpu, 0);
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
    long gpu = gpu_of(handle);
    *a = *b = 0;
    *c = of("ROWS", gpu, 0);
    *failed = of("REMAP", gpu, 0);
    return value("ROWSRC", *c || *failed ? 0 : 3);
}
int nvmlDeviceGetRetiredPagesPendingStatus(void *handle, unsigned *pending) {
    *pending = of("PAGES", gpu_of(handle), 0);
    return value("PAGESRC", *pending ? 0 : 3);
}
int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, unsigned long long *count) {
    if (type != 1 || counter != 0) return 2;
    *count = (unsigned long long)of("ECC", gpu_of(handle), 0);
    return value("ECCRC", *count ? 0 : 3);
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    snprintf(text, size, "550.54.15");
    return value("DRIVERRC", 0);
}
int nvmlSystemGetCudaDriverVersion(int *version) { *version = 12040; return value("DRIVERRC", 0); }
int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) { *id = (long)handle % 1000 + 7; return 0; }
int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) { *id = 0; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    *current = *pending = of("MIG", gpu_of(handle), -1) >= 0;
    return value("MIGRC", of("MIG", gpu_of(handle), -1) >= 0 ? 0 : 3);
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned place, void **instance) {
    if ((int)place >= of("MIG", gpu_of(handle), -1)) return 6;
    *instance = (void *)(1000 * (long)handle + place);
    return 0;
}
