// Native methods of Native.java.

#include <jni.h>
#include <pthread.h>
#include <stdint.h>

#define METHOD(name) JNIEXPORT JNICALL Java_Native_##name

static JavaVM *vm;

JNIEXPORT jint JNICALL JNI_OnLoad(JavaVM *loading, void *reserved) {
    (void)reserved;
    vm = loading;
    return JNI_VERSION_1_8;
}

jlong METHOD(sum)(JNIEnv *env, jclass class, jlongArray values) {
    (void)class;
    jsize length = (*env)->GetArrayLength(env, values);
    jlong *in_place = (*env)->GetPrimitiveArrayCritical(env, values, 0);
    jlong sum = 0;
    for (jsize i = 0; i < length; i++) sum += in_place[i];
    (*env)->ReleasePrimitiveArrayCritical(env, values, in_place, JNI_ABORT);
    return sum;
}

jlong METHOD(down)(JNIEnv *env, jclass class, jint depth) {
    jmethodID up = (*env)->GetStaticMethodID(env, class, "up", "(I)J");
    return (*env)->CallStaticLongMethod(env, class, up, depth) + 1;
}

void METHOD(fail)(JNIEnv *env, jclass class, jstring message) {
    (void)class;
    const char *text = (*env)->GetStringUTFChars(env, message, 0);
    (*env)->ThrowNew(env, (*env)->FindClass(env, "java/lang/IllegalArgumentException"), text);
    (*env)->ReleaseStringUTFChars(env, message, text);
}

jlong METHOD(caught)(JNIEnv *env, jclass class, jint number) {
    jmethodID throwing = (*env)->GetStaticMethodID(env, class, "throwing", "(I)V");
    (*env)->PushLocalFrame(env, 8);
    (*env)->CallStaticVoidMethod(env, class, throwing, number);
    jthrowable thrown = (*env)->ExceptionOccurred(env);
    (*env)->ExceptionClear(env);
    (*env)->PopLocalFrame(env, 0);
    return thrown ? 1 : 0;
}

struct part {
    jclass class;
    jlong seed, result;
};

static void *attached(void *argument) {
    struct part *part = argument;
    JNIEnv *env;
    if ((*vm)->AttachCurrentThread(vm, (void **)&env, 0) != JNI_OK) return 0;
    jmethodID work = (*env)->GetStaticMethodID(env, part->class, "work", "(J)J");
    part->result = (*env)->CallStaticLongMethod(env, part->class, work, part->seed);
    (*vm)->DetachCurrentThread(vm);
    return 0;
}

jlong METHOD(elsewhere)(JNIEnv *env, jclass class, jint threads, jlong seed) {
    enum { MOST = 8 };
    pthread_t ids[MOST];
    struct part parts[MOST];
    jclass global = (*env)->NewGlobalRef(env, class);
    int started = 0;
    for (; started < threads && started < MOST; started++) {
        parts[started] = (struct part){global, seed + started, 0};
        if (pthread_create(&ids[started], 0, attached, &parts[started])) break;
    }
    jlong sum = 0;
    for (int i = 0; i < started; i++) {
        pthread_join(ids[i], 0);
        sum = sum * 31 + parts[i].result;
    }
    (*env)->DeleteGlobalRef(env, global);
    return sum;
}

void METHOD(fill)(JNIEnv *env, jclass class, jobject buffer, jint seed) {
    (void)class;
    uint8_t *bytes = (*env)->GetDirectBufferAddress(env, buffer);
    jlong length = (*env)->GetDirectBufferCapacity(env, buffer);
    for (jlong i = 0; i < length; i++) bytes[i] = (uint8_t)(i * seed >> 2);
}

jlong METHOD(loop)(JNIEnv *env, jclass class, jlong rounds) {
    (void)env, (void)class;
    __asm__ volatile("1: sub $1, %0\n\tjnz 1b" : "+r"(rounds) : : "cc");
    return rounds;
}
