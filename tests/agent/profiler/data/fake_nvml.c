/* A stand-in for libnvidia-ml.so.1 with two GPUs that are read while they work. The file that
   FAKE_NVML names holds lines of "KEY NUMBER", read at each call:

     INIT            status of init                 UTIL<i>   status of GPU i's utilization
     LOST<i>         status of GPU i's handle       MEMORY<i> status of its memory
     BUSY<i>         its utilization in percent     HANG<i>   seconds its utilization call takes
     CRASH<i>        1: that call crashes
*/
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int of(const char *key, long gpu, int otherwise) {
    char wanted[64], name[64];
    int number;
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    if (!file) return otherwise;
    snprintf(wanted, sizeof wanted, gpu < 0 ? "%s" : "%s%ld", key, gpu);
    while (fscanf(file, "%63s %d", name, &number) == 2)
        if (!strcmp(name, wanted)) { fclose(file); return number; }
    fclose(file);
    return otherwise;
}

static long gpu_of(void *handle) { return (long)handle - 1; }

int nvmlInitWithFlags(unsigned flags) { return of("INIT", -1, 0); }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(long)(index + 1);
    return index > 1 ? 2 : of("LOST", index, 0);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    return nvmlDeviceGetHandleByIndex_v2(uuid[strlen(uuid) - 1] - '0', handle);
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    snprintf(text, size, "GPU-%ld", gpu_of(handle));
    return 0;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    long gpu = gpu_of(handle);
    sleep(of("HANG", gpu, 0));
    if (of("CRASH", gpu, 0)) raise(SIGSEGV);
    rates[0] = of("BUSY", gpu, 0);
    rates[1] = 0;
    return of("UTIL", gpu, 0);
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long *memory) {
    memory[0] = 8ULL << 30;
    memory[1] = 5ULL << 30;
    memory[2] = 3ULL << 30;
    return of("MEMORY", gpu_of(handle), 0);
}
