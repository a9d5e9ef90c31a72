/* Libraries come and go at the same addresses, other code in their place. @alone @flags -O1 */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

typedef double function(double);

int main(void) {
    double sum = 0;
    unsigned long characters = 0;
    for (int i = 0; i < 500; i++) {
        void *mathematics = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
        function *cosine = (function *)dlsym(mathematics, i & 1 ? "cos" : "atan");
        sum += cosine(i);
        dlclose(mathematics);
        void *resolver = dlopen("libresolv.so.2", RTLD_NOW | RTLD_LOCAL);
        int (*to_text)(const unsigned char *, unsigned long, char *, unsigned long) =
            (int (*)(const unsigned char *, unsigned long, char *, unsigned long))dlsym(resolver, "__b64_ntop");
        char text[64];
        characters += (unsigned long)to_text((const unsigned char *)"sparkanalyzer", 1 + i % 13, text, sizeof text);
        dlclose(resolver);
    }
    printf("%.9f %lu\n", sum, characters);
    return 0;
}
